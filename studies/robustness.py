"""What frames that are lost, shuffled, coarse, sped up, compressed, noisy or black cost (paper, section 4.17).

    python studies/robustness.py

Small models with divided attention are trained from nothing on each data set, and tested on test clips as they are
and with each perturbation. Then each is trained further, on the training clips and the same clips perturbed: the
share of the accuracy before any perturbation that it keeps is what the paper's table 10 calls the recovery rate. Clips
are written first as the models see them, eight frames a second at the models' size, so that a perturbation is the same
on each data set. How strong its perturbations are the paper does not say; here `PERTURBATIONS` does.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pandas
from comparison import NUM_SEEDS
from data_sets import DATA_SETS, FRAME_INTERVAL_SECONDS, FRAME_RATE, PRESET, available, make_clips
from intervals import mean_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from small_training import EPOCHS, model_arguments, train_on, train_small
from study import Case, Setting, Study, Value, origin_line
from tqdm import tqdm

from fal_hf.model.video_file import probe, read_frames
from fal_hf.training import DataArguments, EvaluationArguments, evaluate, write_video
from fal_hf.training.data import LabeledClip, load_clips, write_manifest

# Of the epochs of the training, for training further, with twice as many clips.
FURTHER_SHARE = 0.1
FURTHER_LEARNING_RATE = 5e-4

DROPPED_SHARE = 0.25
NOISE_LEVELS = 25.0
BLACK_SHARE = 0.25
MOST_SPEED = 1.5
COARSE_CRF, FINE_CRF = 40, 18
CLEAN, SHUFFLED = "clean", "shuffled"


# Perturbations: frames (T, H, W, 3) uint8 and a generator to frames of the same shape


def leave(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return frames


def drop_frames(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter of the frames but the first are lost; what was shown before them stays."""
    count = len(frames)
    lost = 1 + rng.permutation(count - 1)[: round(DROPPED_SHARE * count)]
    shown = np.arange(count)
    shown[lost] = 0
    return frames[np.maximum.accumulate(shown)]


def shuffle_frames(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The frames in random order."""
    return rng.permutation(frames)


def halve_resolution(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames of half the resolution, as a player enlarges them."""
    height, width = frames.shape[1:3]
    halves = (cv2.resize(frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for frame in frames)
    return np.stack([cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR) for half in halves])


def change_speed(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames at another distance, 2/3 to 3/2 of their own, from the first one on; the last one is held."""
    speed = MOST_SPEED ** rng.uniform(-1, 1)
    places = np.floor(speed * np.arange(len(frames)) + 0.5).astype(int)
    return frames[np.minimum(places, len(frames) - 1)]


def add_noise(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Normal noise of each channel of each pixel."""
    return np.clip(frames + rng.normal(0, NOISE_LEVELS, frames.shape), 0, 255).astype(np.uint8)


def black_out(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter of the frames, one after the other, are black."""
    count = round(BLACK_SHARE * len(frames))
    start = rng.integers(len(frames) - count + 1)
    frames = frames.copy()
    frames[start : start + count] = 0
    return frames


@dataclass(frozen=True)
class Perturbation:
    """
    What is done to clips.

    Args:
        title: For the reader.
        change: Of the frames.
        crf: Of the file's compression.
        paper_drop, paper_recovery: Points of accuracy and per cent in table 10; None where it has no such row.
    """

    title: str
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    crf: int = FINE_CRF
    paper_drop: float | None = None
    paper_recovery: float | None = None


PERTURBATIONS = {
    CLEAN: Perturbation("none", leave),
    "dropped": Perturbation("a quarter of the frames lost", drop_frames, paper_drop=3.2, paper_recovery=92.4),
    SHUFFLED: Perturbation("frames shuffled", shuffle_frames, paper_drop=8.7, paper_recovery=84.2),
    "coarse": Perturbation("half the resolution", halve_resolution, paper_drop=2.4, paper_recovery=95.8),
    "speed": Perturbation("2/3 to 3/2 of the frame rate", change_speed, paper_drop=1.8, paper_recovery=97.2),
    "compressed": Perturbation(f"H.264 at CRF {COARSE_CRF}", leave, crf=COARSE_CRF),
    "noisy": Perturbation(f"noise of {NOISE_LEVELS:.0f} levels", add_noise),
    "black": Perturbation("a quarter of the frames black", black_out),
}


# Files


def written_path(folder: Path, kind: str, clip: LabeledClip) -> Path:
    """Where a clip of a data set is with a perturbation."""
    return folder / kind / "-".join(Path(clip.path).parts[-3:])


def read_as_seen(path: str, side: int) -> np.ndarray:
    """(T, H, W, 3) uint8: a file as a model's clips have it, at their distance of frames and their short side."""
    seconds = np.arange(0, probe(path).duration_seconds - FRAME_INTERVAL_SECONDS / 2, FRAME_INTERVAL_SECONDS)
    frames = np.asarray(read_frames(path, seconds=seconds).frames)
    factor = side / min(frames.shape[1:3])
    width, height = (2 * round(edge * factor / 2) for edge in frames.shape[2:0:-1])
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def write_perturbed(path: Path, frames: np.ndarray, kind: str) -> None:
    """Writes frames with a perturbation, the same ones for the same name of the file."""
    perturbation = PERTURBATIONS[kind]
    rng = np.random.default_rng(zlib.crc32(f"{kind}/{path.name}".encode()))
    changed = perturbation.change(frames, rng)
    write_video(path, changed, frame_rate=FRAME_RATE, crf=perturbation.crf, preset=PRESET)


def clips_folder(files: Path, setting: Setting, name: str) -> Path:
    return files / f"{name}-{setting}"


def prepare(files: Path, setting: Setting) -> None:
    """Writes the clips of each data set with each perturbation, where they are not there yet."""
    for name in available():
        folder = clips_folder(files, setting, name)
        for kind in kinds_of(setting):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        splits = load_clips(make_clips(files, setting, name), seed=0)
        for clip in tqdm(list(chain(*splits.values())), desc=f"perturbing {name}", disable=None):
            paths = {kind: written_path(folder, kind, clip) for kind in kinds_of(setting)}
            if all(path.exists() for path in paths.values()):
                continue
            frames = read_as_seen(clip.path, DATA_SETS[name].side)
            for kind, path in paths.items():
                write_perturbed(path, frames, kind)


def use_clips(manifest: Path, splits: Mapping[str, Sequence[LabeledClip]]) -> DataArguments:
    """Clips of which a manifest says the split."""
    write_manifest(manifest, splits)
    return DataArguments(train_file=str(manifest), train_val_split=0.0)


# Cases


def kinds_of(setting: Setting) -> list[str]:
    return list(PERTURBATIONS)[:3] if setting == "toy" else list(PERTURBATIONS)


def cases(setting: Setting) -> Sequence[Case]:
    return [{"data": name, "seed": seed} for name in available() for seed in range(NUM_SEEDS[setting])]


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    """
    For each perturbation the accuracy of a model that has not seen it, and of the same model trained further with it.
    """
    name, seed = case["data"], case["seed"]
    clips, folder = clips_folder(files, setting, name), files / f"{name}-{setting}-{seed}"
    folder.mkdir(exist_ok=True)
    splits = load_clips(make_clips(files, setting, name), seed=seed)
    perturbed = {
        kind: {
            split: [replace(clip, path=str(written_path(clips, kind, clip).absolute())) for clip in part]
            for split, part in splits.items()
        }
        for kind in kinds_of(setting)
    }
    clean = perturbed[CLEAN]
    model = train_on(name, files, setting, seed=seed, data=use_clips(folder / "first-clips.jsonl", clean)).model_dir
    figures = {}
    for kind, with_it in perturbed.items():
        both = {"train": [*clean["train"], *with_it["train"]], "test": with_it["test"]}
        data, arguments = use_clips(folder / f"{kind}-clips.jsonl", both), model_arguments(name, model)
        evaluation = EvaluationArguments(
            model_name_or_path=str(model),
            num_clips=[DATA_SETS[name].num_views],
            output_dir=str(folder / kind / "before"),
            device="cpu",
        )
        after, _ = train_small(
            folder / kind,
            data,
            arguments,
            epochs=FURTHER_SHARE * EPOCHS[setting],
            seed=seed,
            use_cpu=True,
            learning_rate=FURTHER_LEARNING_RATE,
        )
        figures[f"{kind}_percent"] = 100 * evaluate(data=data, evaluation=evaluation).accuracy
        figures[f"{kind}_trained_percent"] = 100 * after.figures["test"]["accuracy"]
    return figures


# What the rows say


def kinds_in(table: pandas.DataFrame) -> list[str]:
    return [kind for kind in PERTURBATIONS if f"{kind}_percent" in table]


def accuracies(rows: pandas.DataFrame, kind: str) -> pandas.Series:
    return rows[f"{kind}_percent"]


def drops(rows: pandas.DataFrame, kind: str) -> pandas.Series:
    """Points of accuracy that a perturbation costs a model that has not seen it."""
    return rows[f"{CLEAN}_percent"] - rows[f"{kind}_percent"]


def gains(rows: pandas.DataFrame, kind: str) -> pandas.Series:
    """Points that training with a perturbation brings on clips with it."""
    return rows[f"{kind}_trained_percent"] - rows[f"{kind}_percent"]


def recoveries(rows: pandas.DataFrame, kind: str) -> pandas.Series:
    """Accuracy on perturbed clips after training with them, per cent of that on clean clips before."""
    return 100 * rows[f"{kind}_trained_percent"] / rows[f"{CLEAN}_percent"]


def extra_drops(rows: pandas.DataFrame, kind: str) -> pandas.Series:
    """By how many points shuffling costs more than another perturbation."""
    return drops(rows, SHUFFLED) - drops(rows, kind)


def draw(table: pandas.DataFrame) -> Figure:
    """A panel a data set: mean accuracies of each perturbation, before and after training with it."""
    names, kinds = table["data"].unique(), kinds_in(table)[::-1]
    figure, panels = pyplot.subplots(1, len(names), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        rows = table[table["data"] == name]
        places = range(len(kinds))
        before, after = (
            [rows[f"{kind}_{column}"].mean() for kind in kinds] for column in ("percent", "trained_percent")
        )
        panel.hlines(places, before, after, color="black", linewidth=1, zorder=1)
        panel.plot(before, places, "o", color="white", markeredgecolor="black", markersize=5, label="before")
        panel.plot(after, places, "o", color="black", markersize=5, label="trained with it")
        clean, chance = accuracies(rows, CLEAN).mean(), 100 * DATA_SETS[name].chance
        panel.axvline(clean, color="black", linestyle="--", linewidth=1, label="no perturbation")
        panel.axvline(chance, color="black", linestyle=":", linewidth=1, label="always one class")
        panel.set_yticks(places, [PERTURBATIONS[kind].title for kind in kinds])
        panel.set_title(DATA_SETS[name].title)
        panel.set_xlabel("accuracy, %")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def make_table(
    table: pandas.DataFrame,
    header: str,
    kinds: Sequence[str],
    *,
    figure: Callable[[pandas.DataFrame, str], pandas.Series],
    paper: Callable[[Perturbation], float | None] | None = None,
    is_claim: bool = False,
) -> list[str]:
    """A row a perturbation: the paper's figure and the mean on each data set, with what it says of a claim."""
    names = table["data"].unique()
    titles = [header, *(["in the paper"] if paper else []), *(DATA_SETS[name].title for name in names)]
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for kind in kinds:
        means = [mean_of(figure(table[table["data"] == name], kind).to_list()) for name in names]
        cells = [f"{mean}: {mean.verdict}" if is_claim else str(mean) for mean in means]
        if paper:
            quoted = paper(PERTURBATIONS[kind])
            cells.insert(0, "" if quoted is None else f"{quoted:.1f}")
        lines.append("| " + " | ".join([PERTURBATIONS[kind].title, *cells]) + " |")
    return [*lines, ""]


def tell(table: pandas.DataFrame) -> str:
    kinds = kinds_in(table)
    others = [kind for kind in kinds if PERTURBATIONS[kind].paper_drop is not None and kind != SHUFFLED]
    shuffle_drop = PERTURBATIONS[SHUFFLED].paper_drop
    return "\n".join(
        [
            origin_line(table, "python studies/robustness.py"),
            "",
            *make_table(table, "accuracy, %", kinds, figure=accuracies),
            *make_table(table, "points lost", kinds[1:], paper=lambda one: one.paper_drop, figure=drops),
            *make_table(table, "recovery, %", kinds, paper=lambda one: one.paper_recovery, figure=recoveries),
            "In the paper shuffling costs the most, and training with a perturbation brings most of the accuracy "
            "back. Here:",
            "",
            *make_table(
                table,
                "points that shuffling costs more than",
                others,
                paper=lambda one: shuffle_drop - one.paper_drop,
                figure=extra_drops,
                is_claim=True,
            ),
            *make_table(table, "points gained by training with", kinds, figure=gains, is_claim=True),
            "Where the perturbation is none, the same model was trained further on its clips alone, each twice an "
            "epoch: what the others gain beyond that comes from their perturbation.",
            "",
        ]
    )


STUDY = Study(name="robustness", cases=cases, prepare=prepare, measure=measure, draw=draw, tell=tell)

if __name__ == "__main__":
    STUDY.main()
