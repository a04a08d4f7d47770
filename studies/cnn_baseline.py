"""How FAL compares with convolutional networks: accuracy, precision, recall, F1 and cost (paper, tables 2 and 5).

    python studies/cnn_baseline.py

A small FAL with divided attention, a 3D CNN that costs about as much, and torchvision's 18 layers are trained from
nothing by the same recipe, on the same clips in the same order. The networks of torchvision cost a hundred times as
much: the small setting trains one of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas
from comparison import cases_of, claim_head, difference_cells, draw_kinds, make_all_clips
from data_sets import DATA_SETS, available
from intervals import mean_of
from matplotlib.figure import Figure
from small_cnn import FAL, NETWORKS, SMALL_CNN, TORCHVISION, count_gflop
from small_training import train_network
from study import Case, Setting, Study, Value, origin_line

from fal_hf import FALConfig

# Of the figures of a test, how the study names them.
FIGURES = {
    "accuracy": "accuracy",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "f1_macro": "macro F1",
}
# By how many points the paper's FAL is better than "CNN (Baseline)", of which it says no more (table of the README).
PAPER = {"accuracy": 7.2, "precision_macro": 7.5, "recall_macro": 7.6, "f1_macro": 7.5}
# The same of R(2+1)D, and how often FAL's operations that computes: 85.5 and 78.5 %, 0.55 and 16.2 TFLOP (table 5).
PAPER_TORCHVISION, PAPER_TIMES = "7.0 beside R(2+1)D", 16.2 / 0.55
FULL_SIZE = FALConfig.from_preset("fal")
LARGE_SEEDS = {"toy": 1, "small": 1, "full": 3}  # of torchvision's networks
NOTE = (
    "Differences are in points of a per cent. Seconds are a processor's, with the reading of clips; all models are "
    "trained for the same number of epochs. The table of the paper's README, whose differences stand beside the small "
    "3D CNN, does not say what its CNN is. Lines of operations are of models of full size: those of a clip of "
    "8 x 224² in torchvision's network, over those in the preset `fal`; the paper does not say of how many clips its "
    "figures are."
)


def cases(setting: Setting) -> Sequence[Case]:
    """The longest ones first, so that processes end together."""
    names = [name for name in available() if setting == "full" or name == "camera_motion"]
    kinds = list(TORCHVISION) if setting == "full" else list(TORCHVISION)[:1]
    large = [
        {"data": name, "model": kind, "seed": seed}
        for name in names
        for kind in kinds
        for seed in range(LARGE_SEEDS[setting])
    ]
    return large + cases_of([FAL, SMALL_CNN], setting)


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    trained = train_network(case["model"], case["data"], files, setting, seed=case["seed"])
    return {
        **{f"{figure}_percent": 100 * trained.figures[figure] for figure in FIGURES},
        "gflop": trained.gflop,
        "full_size_gflop": None if case["model"] == SMALL_CNN else count_gflop(NETWORKS[case["model"]], FULL_SIZE),
        "million_parameters": trained.num_parameters / 1e6,
        "processor_seconds": trained.processor_seconds,
    }


def in_order(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows by data set and kind of model."""
    return pandas.concat(
        [table[(table["data"] == name) & (table["model"] == kind)] for name in DATA_SETS for kind in NETWORKS]
    )


def draw(table: pandas.DataFrame) -> Figure:
    return draw_kinds(in_order(table))


def figure_lines(table: pandas.DataFrame) -> list[str]:
    """What each kind of model is and reaches on each data set, in Markdown."""
    titles = ["data", "model", "million parameters", "GFLOP a clip", "processor seconds of training"]
    titles += [f"{title}, %" for title in FIGURES.values()]
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for (name, kind), rows in table.groupby(["data", "model"], sort=False):
        first = rows.iloc[0]
        cells = [DATA_SETS[name].title, kind, f"{first['million_parameters']:.2f}", f"{first['gflop']:.3f}"]
        columns = ["processor_seconds", *(f"{figure}_percent" for figure in FIGURES)]
        cells += [str(mean_of(rows[column].to_list())) for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def claim_lines(table: pandas.DataFrame) -> list[str]:
    """What becomes of the claims that FAL is better than convolutions and computes less, in Markdown."""
    lines = claim_head(table, f"{FAL} beside")
    for figure, title in FIGURES.items():
        cells = difference_cells(table, FAL, SMALL_CNN, f"{figure}_percent")
        lines.append(f"| {SMALL_CNN}: {title} | {PAPER[figure]} | " + " | ".join(cells) + " |")
    for kind in (kind for kind in TORCHVISION if kind in set(table["model"])):
        cells = difference_cells(table, FAL, kind)
        lines.append(f"| {kind}: accuracy | {PAPER_TORCHVISION} | " + " | ".join(cells) + " |")
        cells = times_cells(table, kind)
        lines.append(f"| {kind}: times FAL's operations | {PAPER_TIMES:.1f} of R(2+1)D | " + " | ".join(cells) + " |")
    return lines


def times_cells(table: pandas.DataFrame, kind: str) -> list[str]:
    """How often FAL's operations a network of torchvision computes, where it was trained, and if that is more."""
    cells = []
    for name in table["data"].unique():
        rows = table[table["data"] == name].groupby("model")["full_size_gflop"].first()
        times = rows[kind] / rows[FAL] if kind in rows else None
        cells.append("not measured" if times is None else f"{times:.1f}: {'holds' if times > 1 else 'the opposite'}")
    return cells


def tell(table: pandas.DataFrame) -> str:
    table = in_order(table)
    head = origin_line(table, "python studies/cnn_baseline.py")
    return "\n".join([head, "", *figure_lines(table), "", *claim_lines(table), "", NOTE, ""])


STUDY = Study(name="cnn_baseline", cases=cases, prepare=make_all_clips, measure=measure, draw=draw, tell=tell)

if __name__ == "__main__":
    STUDY.main()
