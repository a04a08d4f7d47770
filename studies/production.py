"""What a model takes where it is used: clips a second, memory, power and size, of attention schemes, of labels as
tokens, of precisions and runtimes, beside convolutional networks (paper, the tables of sections 4.3 and 4.7).

    python studies/production.py

Models have random weights, which cost what trained ones do. The cases are measured in turn, round after round, so that
what else happens on the machine meets all of them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

import pandas
import torch
from intervals import mean_difference, mean_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from power import mean_watts
from study import Case, Setting, Study, Value, origin_line  # isort: split

from forward import extra_mib, held_mib  # of the benchmarks, like those below
from gpu import clips_per_second
from label_attention import clip_shape
from runtimes import size_mib, write_runtime
from torch import nn
from torchvision.models import video as torchvision_video
from transformers.utils import logging

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification
from fal_hf.export.writers import WRITERS
from fal_hf.runtimes.exported_classifier import require_packages
from fal_hf.runtimes.formats import PRECISIONS_OF, Format
from fal_hf.runtimes.loading import load_runtime, runs_anywhere
from fal_hf.runtimes.runtime_folder import RuntimeFolder, RuntimeRecord

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NUM_LABELS = 500
SCHEME, UNIFIED, DIVIDED = "divided", "unified labels", "divided labels"
MODELS: dict[str, dict[str, Value]] = {
    SCHEME: {},
    "space only": {"attention_type": "space_only"},
    "joint": {"attention_type": "joint_space_time"},
    "sparse local-global": {"attention_type": "sparse_local_global"},
    "axial": {"attention_type": "axial"},
    "label tokens alone": {"label_attention": "label"},
    UNIFIED: {"label_attention": "unified"},
    DIVIDED: {"label_attention": "divided"},
}
# In the place of AutoLabel and LabelNet, which are not public.
CONVOLUTIONAL = {"R3D-18": "r3d_18", "R(2+1)D-18": "r2plus1d_18"}
PLAIN = "torch-float32"
# What is compared: its unit in the documents, and whether more of it is better.
FIGURES = {
    "frames_per_second": ("frames a second", True),
    "memory_mib": ("memory, MiB", False),
    "watts": ("power, W", False),
    "files_mib": ("files, MiB", False),
}
# The paper's figures, in frames a second, GB, W and GB: divided beside unified labels (section 4.3), FAL beside
# AutoLabel and LabelNet (section 4.7).
PAPER = {
    UNIFIED: ("423 beside 156", "8.7 beside 16.4 GB", "195 beside 285", "3.2 beside 4.8 GB"),
    **dict.fromkeys(
        CONVOLUTIONAL,
        (
            "423 beside 185 and 142",
            "8.7 beside 12.4 and 14.8 GB",
            "195 beside 245 and 265",
            "3.2 beside 3.8 and 4.2 GB",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """
    What is measured in a setting.

    Args:
        fields: Of the model's configuration that differ from the preset's.
        batch: Clips at once.
        seconds: How long a case is measured, at least.
    """

    preset: str
    batch: int
    rounds: int
    seconds: float
    num_labels: int = NUM_LABELS
    fields: Mapping[str, Value] = field(default_factory=dict)


SIZES: dict[Setting, Sizes] = {
    "toy": Sizes(
        preset="fal-small",
        fields={"num_hidden_layers": 2, "label_integration_layer": 1, "image_size": 32, "num_frames": 4},
        batch=1,
        rounds=2,
        seconds=0,
        num_labels=10,
    ),
    "small": Sizes(preset="fal-small", batch=1, rounds=3, seconds=1),
    "full": Sizes(preset="fal-base", batch=32, rounds=5, seconds=5),
}


def cases(setting: Setting) -> Sequence[Case]:
    models = {**dict.fromkeys(MODELS, (PLAIN, "torch-bfloat16")), **dict.fromkeys(CONVOLUTIONAL, (PLAIN,))}
    return [
        {"model": model, "runtime": runtime, "seed": seed}
        for seed in range(SIZES[setting].rounds)
        for model, runtimes in models.items()
        for runtime in (*runtimes, *(list_exports(setting) if model == SCHEME else ()))
    ]


def list_exports(setting: Setting) -> list[str]:
    """The runtimes of an export that are installed, without those of every model."""
    names = [
        f"{format}-{precision}"
        for format, precisions in PRECISIONS_OF.items()
        for precision in precisions
        if is_installed(format)
    ]
    names = [name for name in names if name not in (PLAIN, "torch-bfloat16")]
    return ["torch-int8"] if setting == "toy" else names


def is_installed(format: Format) -> bool:
    try:
        require_packages(format)
    except ImportError:
        return False
    return True


def prepare(files: Path, setting: Setting) -> None:
    """Writes the files of every case, where they are not there yet."""
    be_quiet()
    wanted: dict[str, list[str]] = {}
    for case in cases(setting):
        if case["seed"] == 0:
            wanted.setdefault(case["model"], []).append(case["runtime"])
    for model, runtimes in wanted.items():
        folder = files / f"{setting}-{model}"
        if model in CONVOLUTIONAL:
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(build_convolutional(model, setting).state_dict(), folder / "weights.pt")
        else:
            write_runtimes(folder, build_config(model, setting), runtimes)


def be_quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def write_runtimes(folder: Path, config: FALConfig, names: Sequence[str]) -> None:
    """Writes the runtimes of a model that are not in its folder yet."""
    torch.manual_seed(0)
    model = FALVideoClassifierForVideoClassification(config).eval()
    config.save_pretrained(folder)
    clips, writers, records = [torch.randn(clip_shape(config)) for _ in range(4)], {}, []
    for name in names:
        kept, (format, precision) = folder / f"{name}.json", name.split("-")
        if not kept.exists():
            if format not in writers:
                writers[format] = WRITERS[format](model, clips)
            record = write_runtime(writers[format], format, precision, folder)
            kept.write_text(json.dumps(asdict(record)))
        records.append(RuntimeRecord.of(json.loads(kept.read_text())))
    RuntimeFolder(folder, "", tuple(records)).write()


def build_config(model: str, setting: Setting) -> FALConfig:
    sizes = SIZES[setting]
    return FALConfig.from_preset(sizes.preset, num_labels=sizes.num_labels, **{**sizes.fields, **MODELS[model]})


def build_convolutional(model: str, setting: Setting) -> nn.Module:
    """A network of torchvision with random weights, for clips as FAL takes them."""
    return ChannelsFirst(getattr(torchvision_video, CONVOLUTIONAL[model])(num_classes=SIZES[setting].num_labels))


class ChannelsFirst(nn.Module):
    """A network that takes clips as `(B, channels, T, height, width)`, for clips as `(B, T, channels, ...)`."""

    dtype = torch.float32

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values.transpose(1, 2))


def load_case(case: Case, folder: Path, setting: Setting) -> tuple[Callable, str]:
    """The model of a case from its files, and where it runs."""
    if case["model"] in CONVOLUTIONAL:
        model = build_convolutional(case["model"], setting)
        model.load_state_dict(torch.load(folder / "weights.pt"))
        return model.eval().to(DEVICE), DEVICE
    runtimes = RuntimeFolder.read(folder)
    record = runtimes.find(case["runtime"])
    device = DEVICE if runs_anywhere(record) else "cpu"
    return load_runtime(runtimes, record, device), device


@cache
@torch.inference_mode()
def warm_up(runtime: str, files: Path, setting: Setting) -> None:
    """Has this process load what a runtime needs, which is no model's own memory."""
    model, device = load_case({"model": SCHEME, "runtime": runtime}, files / f"{setting}-{SCHEME}", setting)
    model(torch.zeros(clip_shape(build_config(SCHEME, setting))).to(device, model.dtype))


@torch.inference_mode()
def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    be_quiet()
    sizes, folder = SIZES[setting], files / f"{setting}-{case['model']}"
    warm_up(case["runtime"], files, setting)
    before = {device: held_mib(device) for device in {"cpu", DEVICE}}
    model, device = load_case(case, folder, setting)
    shape = clip_shape(build_config(SCHEME, setting))[1:]
    clips = torch.randn(sizes.batch, *shape).to(device, model.dtype)
    rates: list[float] = []
    watts = mean_watts(lambda: rates.append(clips_per_second(model, clips, seconds=sizes.seconds)), device)
    held, extra = held_mib(device), extra_mib(partial(model, clips), device)
    known = None not in (before[device], held, extra)
    return {
        "device": device,
        "batch": sizes.batch,
        "clips_per_second": rates[0],
        "frames_per_second": rates[0] * shape[0],
        "memory_mib": held - before[device] + extra if known else None,
        "watts": watts,
        "files_mib": size_mib(folder if case["model"] in CONVOLUTIONAL else folder / case["runtime"]),
    }


# ---- what the rows say ----


def draw(table: pandas.DataFrame) -> Figure:
    """Frames a second and memory of every case: a dot a round."""
    names = names_of(table)[::-1]
    figure, panels = pyplot.subplots(1, 2, sharey=True, figsize=(7, 0.6 + 0.19 * len(names)))
    for panel, figure_name in zip(panels, ("frames_per_second", "memory_mib"), strict=True):
        for place, (model, runtime) in enumerate(names):
            values = rows_of(table, model, runtime)[figure_name]
            panel.barh(place, values.mean(), height=0.6, color="0.85" if runtime == PLAIN else "0.65")
            panel.plot(values, [place] * len(values), "o", color="C0", markersize=3)
        panel.set_xlabel(FIGURES[figure_name][0])
    panels[0].set_yticks(range(len(names)), [f"{model}, {runtime}" for model, runtime in names])
    return figure


def names_of(table: pandas.DataFrame) -> list[tuple[str, str]]:
    """The models with their runtimes, in the order of the rows."""
    return list(dict.fromkeys(zip(table["model"], table["runtime"], strict=True)))


def rows_of(table: pandas.DataFrame, model: str, runtime: str = PLAIN) -> pandas.DataFrame:
    return table[(table["model"] == model) & (table["runtime"] == runtime)]


def tell(table: pandas.DataFrame) -> str:
    batches = ", ".join(str(batch) for batch in table["batch"].unique())
    return "\n".join(
        [
            origin_line(table, "python studies/production.py"),
            "",
            *figure_lines(table),
            "",
            f"Clips at once: {batches}. Memory is that of the loaded model with what a batch takes at most; files are "
            f"those that the runtime needs. {power_line(table)}",
            "",
            *claim_lines(table),
            "",
            "The convolutional networks stand in the place of AutoLabel and LabelNet, which are not public; the "
            "paper's figures are those of its own models, of other sizes.",
            "",
        ]
    )


def power_line(table: pandas.DataFrame) -> str:
    """Where power is from, or that the machine does not tell it."""
    told = table.dropna(subset=["watts"])
    if told.empty:
        return "This machine does not say how much power it takes."
    sources = {"cuda": "of the GPU by its driver", "cpu": "of the processors by their counters"}
    return "Power is that " + " and ".join(sources[device] for device in sorted(told["device"].unique())) + "."


def figure_lines(table: pandas.DataFrame) -> list[str]:
    """All figures of every model and runtime, in Markdown."""
    lines = ["| model | runtime | on | " + " | ".join(unit for unit, _ in FIGURES.values()) + " |"]
    lines.append("| --- " * (3 + len(FIGURES)) + "|")
    for model, runtime in names_of(table):
        rows = rows_of(table, model, runtime)
        cells = ["" if rows[name].isna().any() else str(mean_of(rows[name].to_list())) for name in FIGURES]
        lines.append(f"| {model} | {runtime} | {rows['device'].iloc[0]} | " + " | ".join(cells) + " |")
    return lines


def claim_lines(table: pandas.DataFrame) -> list[str]:
    """What becomes of the claim that divided label attention is the better one in every figure, in Markdown."""
    lines = [f"| {DIVIDED} beside | figure | in the paper | better by | verdict |", "| --- " * 5 + "|"]
    for other, said in PAPER.items():
        for (name, (unit, is_more_better)), paper in zip(FIGURES.items(), said, strict=True):
            pair = [rows_of(table, DIVIDED), rows_of(table, other)]
            if any(rows[name].isna().any() for rows in pair):
                lines.append(f"| {other} | {unit} | {paper} |  | not measured |")
                continue
            difference = mean_difference(*(pair if is_more_better else pair[::-1]), name)
            lines.append(f"| {other} | {unit} | {paper} | {difference} | {difference.verdict} |")
    return lines


STUDY = Study(name="production", cases=cases, prepare=prepare, measure=measure, draw=draw, tell=tell, is_timed=True)

if __name__ == "__main__":
    STUDY.main()
