"""How separable the features of divided attention, of space-only attention and of an image Transformer are, and where
these models look (paper, section 4.16 and its figures 1 and 2).

    python studies/features.py

Small models are trained from nothing on each data set. The image Transformer sees a single frame of a clip, in
training too; its features of a clip are the mean over eight frames.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas
from comparison import cases_of, claim_lines, make_all_clips
from data_sets import DATA_SETS, NUM_FRAMES
from intervals import mean_of
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from small_training import train_on
from study import Case, Setting, Study, Value, origin_line

from fal_hf import VideoLabeler
from fal_hf.training.data import LabeledClip, read_manifest

DIVIDED, IMAGE = "divided", "image Transformer"
KINDS: dict[str, dict[str, Value]] = {
    DIVIDED: {},
    "space only": {"attention_type": "space_only"},
    IMAGE: {"attention_type": "space_only", "num_frames": 1},
}
# Figures of how separable features are, and what they are called.
FIGURES = {"neighbors_percent": "nearest neighbors, %", "silhouette_percent": "silhouette, × 100"}
NEIGHBORS = 5
# The paper shows pictures alone.
PAPER = {"space only": "more separable", IMAGE: "more separable"}
# Of which frames are shown; those of people are not.
PICTURED = ("order", "camera_motion")
MARKERS = "osD^v"
NO_PICTURE = {"map": None, "heat": None, "frames": None}


def cases(setting: Setting) -> Sequence[Case]:
    return cases_of(list(KINDS), setting)


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    result = train_on(case["data"], files, setting, seed=case["seed"], changes=KINDS[case["model"]])
    # A clip has the frames of one clip of the model, or one frame for each of eight clips.
    num_clips = NUM_FRAMES if case["model"] == IMAGE else DATA_SETS[case["data"]].num_views
    labeler = VideoLabeler.from_pretrained(result.model_dir, num_clips=num_clips, device="cpu")
    clips = read_manifest(result.manifest)
    train, test = ([clip for clip in clips if clip.split == split] for split in ("train", "test"))
    features, labels = embed(labeler, test), [clip.labels[0] for clip in test]
    bank = embed(labeler, train), [clip.labels[0] for clip in train]
    return {
        "accuracy_percent": 100 * result.figures["test"]["accuracy"],
        **measure_separability(features, labels, bank),
        **(picture(labeler, case["data"], features, labels, test) if case["seed"] == 0 else NO_PICTURE),
    }


def embed(labeler: VideoLabeler, clips: Sequence[LabeledClip]) -> np.ndarray:
    """The features of some clips, `(clips, D)`."""
    return np.stack([labeler.embed(clip.video, stretch=clip.stretch).embedding for clip in clips])


def measure_separability(
    features: np.ndarray, labels: Sequence[str], bank: tuple[np.ndarray, Sequence[str]]
) -> dict[str, float]:
    """
    How well the classes of test clips are apart, by the cosine of their features: their silhouette (how much nearer a
    clip is to its own class than to the next one, in [-1, 1]), and how often the vote of the nearest training clips is
    right, both times 100.
    """
    neighbors = KNeighborsClassifier(min(NEIGHBORS, len(bank[1])), metric="cosine").fit(*bank)
    return {
        "neighbors_percent": 100 * neighbors.score(features, labels),
        "silhouette_percent": 100 * float(silhouette_score(features, labels, metric="cosine")),
    }


# ---- what the plot needs, as text in the rows of the first seed ----


def picture(
    labeler: VideoLabeler, data: str, features: np.ndarray, labels: Sequence[str], clips: Sequence[LabeledClip]
) -> dict[str, Value]:
    """The t-SNE map of test clips, and where the model looks in the first one of them."""
    row: dict[str, Value] = dict(NO_PICTURE)
    row["map"] = json.dumps({"points": map_features(features).tolist(), "labels": labels})
    if data in PICTURED:
        explanation = labeler.explain(clips[0].video, clips[0].labels[0], method="rollout", stretch=clips[0].stretch)
        row["heat"] = json.dumps(np.round(1e4 * explanation.heat).astype(int).tolist())
        row["frames"] = pack_frames(explanation.frames)
    return row


def map_features(features: np.ndarray) -> np.ndarray:
    """Features `(clips, D)` to places in a plane, `(clips, 2)`, in whole per cents of its size."""
    perplexity = min(30, (len(features) - 1) / 3)
    places = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(features)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.round(100 * (places - low) / np.maximum(high - low, 1e-9)).astype(int)


def pack_frames(frames: np.ndarray) -> str:
    """Frames `(T, height, width, 3)` uint8 as base64 of a PNG, gray and side by side."""
    strip, file = Image.fromarray(np.concatenate(list(frames), axis=1)).convert("L"), io.BytesIO()
    strip.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def unpack_frames(packed: str) -> np.ndarray:
    """What `pack_frames` has packed: `(height, T · width)` uint8."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))))


# ---- what the rows say ----


def draw(table: pandas.DataFrame) -> Figure:
    """For each data set its maps side by side, a model each, and below them where each model looks in one clip."""
    first, names = table[table["seed"] == 0], list(table["data"].unique())
    rows = [(name, what) for name in names for what in ("map", "heat") if what == "map" or name in PICTURED]
    heights = [2.4 if what == "map" else 0.45 for _, what in rows]
    figure, panels = pyplot.subplots(
        len(rows), len(KINDS), figsize=(7, sum(heights) + 0.3), height_ratios=heights, squeeze=False
    )
    for line, (name, what) in zip(panels, rows, strict=True):
        for panel, kind in zip(line, KINDS, strict=True):
            row = first[(first["data"] == name) & (first["model"] == kind)].iloc[0]
            draw_map(panel, json.loads(row["map"])) if what == "map" else draw_heat(panel, row)
            panel.set(xticks=[], yticks=[])
            if what == "map":
                panel.set_title(f"{DATA_SETS[name].title}, {kind}", fontsize=8)
        if what == "map":
            line[0].legend(fontsize=6, markerscale=0.8)
    return figure


def draw_map(panel: Axes, points: Mapping[str, list]) -> None:
    """A dot a clip, with marker and color of its class."""
    places, labels = np.array(points["points"]), np.array(points["labels"])
    for number, label in enumerate(sorted(set(points["labels"]))):
        x, y = places[labels == label].T
        panel.plot(x, y, MARKERS[number % len(MARKERS)], color=f"C{number}", markersize=3, alpha=0.7, label=label)


def draw_heat(panel: Axes, row: pandas.Series) -> None:
    """Frames side by side, bright where the model looks."""
    frames, heat = unpack_frames(row["frames"]), np.concatenate(json.loads(row["heat"]), axis=1)
    height, width = (pixels // patches for pixels, patches in zip(frames.shape, heat.shape, strict=True))
    light = 0.2 + 0.8 * (heat / max(heat.max(), 1)).repeat(height, axis=0).repeat(width, axis=1)
    panel.imshow(frames * light, cmap="gray", vmin=0, vmax=255)
    panel.grid(False)


def tell(table: pandas.DataFrame) -> str:
    lines = [origin_line(table, "python studies/features.py"), "", *separability_lines(table), ""]
    for name, title in FIGURES.items():
        renamed = table.assign(accuracy_percent=table[name])
        lines += [f"Better in {title}:", "", *claim_lines(renamed, DIVIDED, PAPER), ""]
    return "\n".join(
        [
            *lines,
            f"Features are compared by their cosine: test clips with the {NEIGHBORS} nearest training clips, and with "
            "one another. In the plot a dot is a test clip of the first seed, placed by t-SNE, which keeps neighbors "
            "and not distances; below it a clip's frames, brighter where more of its embedding is from (rollout).",
            "",
        ]
    )


def separability_lines(table: pandas.DataFrame) -> list[str]:
    """Every figure of every model on every data set, in Markdown."""
    lines = [
        "| data | model | accuracy, % | " + " | ".join(FIGURES.values()) + " |",
        "| --- " * (3 + len(FIGURES)) + "|",
    ]
    for (name, kind), rows in table.groupby(["data", "model"], sort=False):
        cells = [str(mean_of(rows[figure].to_list())) for figure in ("accuracy_percent", *FIGURES)]
        lines.append(f"| {DATA_SETS[name].title} | {kind} | " + " | ".join(cells) + " |")
    return lines


STUDY = Study(name="features", cases=cases, prepare=make_all_clips, measure=measure, draw=draw, tell=tell)

if __name__ == "__main__":
    STUDY.main()
