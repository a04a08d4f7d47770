"""Kinds of models beside one another on the data sets: how such studies draw and tell their rows.

The rows have the columns `data`, `model`, `seed` and `accuracy_percent`; kinds come in the order in which they are in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas
from data_sets import DATA_SETS, available, make_clips
from intervals import mean_difference, mean_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from study import Case, Setting, origin_line

NUM_SEEDS = {"toy": 1, "small": 3, "full": 10}


def cases_of(kinds: Sequence[str], setting: Setting) -> list[Case]:
    """Every kind on every data set that is there, with every seed."""
    return [
        {"data": data, "model": kind, "seed": seed}
        for data in available()
        for kind in kinds
        for seed in range(NUM_SEEDS[setting])
    ]


def make_all_clips(files: Path, setting: Setting) -> None:
    """The clips of every data set that is there."""
    for name in available():
        make_clips(files, setting, name)


def draw_kinds(table: pandas.DataFrame) -> Figure:
    """A panel a data set: a dot a model, and the mean of each kind; a kind that is not measured there has none."""
    names, kinds = table["data"].unique(), table["model"].unique()[::-1]
    figure, panels = pyplot.subplots(1, len(names), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        rows = table[table["data"] == name]
        for place, kind in enumerate(kinds):
            values = rows.loc[rows["model"] == kind, "accuracy_percent"]
            panel.plot(values, [place] * len(values), "o", color="C0", alpha=0.4, markersize=4)
            panel.plot(values.mean(), place, "|", color="black", markersize=12)
        panel.axvline(100 * DATA_SETS[name].chance, color="black", linestyle=":", linewidth=1)
        panel.set_yticks(range(len(kinds)), kinds)
        panel.set_title(DATA_SETS[name].title)
        panel.set_xlabel("accuracy, %")
    return figure


def accuracy_lines(table: pandas.DataFrame) -> list[str]:
    """Mean accuracies by kind and data set, with their intervals, in Markdown."""
    names = table["data"].unique()
    lines = ["| model | " + " | ".join(f"{DATA_SETS[name].title}, %" for name in names) + " |"]
    lines.append("| --- " * (1 + len(names)) + "|")
    for kind in table["model"].unique():
        rows = table[table["model"] == kind]
        cells = [str(mean_of(rows.loc[rows["data"] == name, "accuracy_percent"].to_list())) for name in names]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    chances = [f"{100 * DATA_SETS[name].chance:.1f}" for name in names]
    return [*lines, "| always one class | " + " | ".join(chances) + " |"]


def claim_lines(table: pandas.DataFrame, best: str, paper: Mapping[str, str]) -> list[str]:
    """
    What becomes of the claim that one kind is better than each of the others, in Markdown: the mean differences and
    whether they show.

    Args:
        best: The kind that the paper says is the best one.
        paper: By how many points, for each of the others.
    """
    lines = claim_head(table, f"{best} beside")
    for kind in (kind for kind in paper if kind in set(table["model"])):
        lines.append(f"| {kind} | {paper[kind]} | " + " | ".join(difference_cells(table, best, kind)) + " |")
    return lines


def claim_head(table: pandas.DataFrame, title: str) -> list[str]:
    """The first lines of a table of claims: what stands in its first column, the paper, and the data sets."""
    names = table["data"].unique()
    lines = [f"| {title} | in the paper | " + " | ".join(DATA_SETS[name].title for name in names) + " |"]
    return [*lines, "| --- " * (2 + len(names)) + "|"]


def difference_cells(table: pandas.DataFrame, best: str, other: str, figure: str = "accuracy_percent") -> list[str]:
    """By how many points one kind is better than another on each data set, and whether that shows."""
    cells = []
    for name in table["data"].unique():
        better, worse = (table[(table["data"] == name) & (table["model"] == kind)] for kind in (best, other))
        difference = None if worse.empty else mean_difference(better, worse, figure)
        cells.append("not measured" if difference is None else f"{difference}: {difference.verdict}")
    return cells


def tell_kinds(table: pandas.DataFrame, command: str, best: str, paper: Mapping[str, str]) -> str:
    """Where the rows are from, accuracies and what becomes of the claim."""
    return "\n".join(
        [origin_line(table, command), "", *accuracy_lines(table), "", *claim_lines(table, best, paper), ""]
    )
