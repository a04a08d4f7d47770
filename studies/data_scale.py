"""How accuracy grows with the number of training clips (paper, figure 4).

    python studies/data_scale.py

A small FAL with divided attention and a 3D CNN that costs about as much are trained from nothing on a quarter, a half,
three quarters and all of the training clips. All models of a seed have the same clips, and those of a smaller share
are among those of a larger one. The number of epochs is the same, so that fewer clips are fewer steps as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas
from comparison import NUM_SEEDS, claim_head, difference_cells, make_all_clips
from data_sets import DATA_SETS, available
from intervals import mean_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from small_cnn import FAL, SMALL_CNN
from small_training import train_network
from study import Case, Setting, Study, Value, origin_line

LINES = {FAL: ("C0", "o-"), SMALL_CNN: ("black", "s--")}  # color, and what tells them apart without it
# What figure 4 of the paper says of FAL beside SlowFast R50 and I3D R50, by the share in per cent: of FAL-500 and of
# Something-Something V2. It is a plot without numbers.
EVERYWHERE = "the best on FAL-500 and SSv2"
PAPER = {25: "the best on FAL-500 alone", 50: "the best on FAL-500 alone", 75: EVERYWHERE, 100: EVERYWHERE}
NOTE = (
    "The second table says by how many points FAL is the more accurate one, and whether that shows. The figure of the "
    "paper is a plot without numbers, of models that had been trained before; its CNNs are SlowFast R50 and I3D R50."
)


def cases(setting: Setting) -> Sequence[Case]:
    return [
        {"data": name, "model": kind, "share_percent": share, "seed": seed}
        for name in available()
        for kind in LINES
        for share in (list(PAPER)[::3] if setting == "toy" else PAPER)
        for seed in range(NUM_SEEDS[setting])
    ]


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    share, seed = case["share_percent"], case["seed"]
    trained = train_network(case["model"], case["data"], files, setting, seed=seed, percent=share)
    return {"num_clips": trained.num_clips, "accuracy_percent": 100 * trained.figures["accuracy"]}


def draw(table: pandas.DataFrame) -> Figure:
    """A panel a data set: accuracy over the share of the training clips, a dot a model and a line through means."""
    names = table["data"].unique()
    figure, panels = pyplot.subplots(1, len(names), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        for kind, (color, mark) in LINES.items():
            rows = table[(table["data"] == name) & (table["model"] == kind)]
            means = rows.groupby("share_percent")["accuracy_percent"].mean()
            panel.plot(means.index, means, mark, color=color, label=kind, markersize=4)
            panel.plot(rows["share_percent"], rows["accuracy_percent"], mark[0], color=color, alpha=0.3, markersize=4)
        panel.axhline(100 * DATA_SETS[name].chance, color="black", linestyle=":", linewidth=1)
        panel.set_xticks(sorted(table["share_percent"].unique()))
        panel.set_title(DATA_SETS[name].title)
        panel.set_xlabel("training clips, %")
    panels[0][0].set_ylabel("accuracy, %")
    panels[0][0].legend()
    return figure


def accuracy_lines(table: pandas.DataFrame) -> list[str]:
    """Mean accuracies by data set, model and share, with their intervals, in Markdown."""
    shares = sorted(table["share_percent"].unique())
    lines = ["| data | model | " + " | ".join(f"{share} % of clips, %" for share in shares) + " |"]
    lines.append("| --- " * (2 + len(shares)) + "|")
    for (name, kind), rows in table.groupby(["data", "model"], sort=False):
        cells = [f"{DATA_SETS[name].title}, {rows['num_clips'].min()} to {rows['num_clips'].max()} clips", kind]
        by_share = rows.groupby("share_percent")["accuracy_percent"]
        cells += [str(mean_of(values.to_list())) for _, values in by_share]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def claim_lines(table: pandas.DataFrame) -> list[str]:
    """What becomes of the claim that FAL is the better one, at each share."""
    lines = claim_head(table, f"{FAL} beside the {SMALL_CNN}")
    for share, rows in table.groupby("share_percent"):
        cells = difference_cells(rows, FAL, SMALL_CNN)
        lines.append(f"| {share} % of clips | {PAPER[share]} | " + " | ".join(cells) + " |")
    return lines


def tell(table: pandas.DataFrame) -> str:
    head = origin_line(table, "python studies/data_scale.py")
    return "\n".join([head, "", *accuracy_lines(table), "", *claim_lines(table), "", NOTE, ""])


STUDY = Study(name="data_scale", cases=cases, prepare=make_all_clips, measure=measure, draw=draw, tell=tell)

if __name__ == "__main__":
    STUDY.main()
