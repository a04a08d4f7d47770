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
    """A panel a data set: a dot a model, and the mean of each kind."""
    names = table["data"].unique()
    figure, panels = pyplot.subplots(1, len(names), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        rows = table[table["data"] == name]
        kinds = rows["model"].unique()[::-1]
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
    names = table["data"].unique()
    lines = [f"| {best} beside | in the paper | " + " | ".join(DATA_SETS[name].title for name in names) + " |"]
    lines.append("| --- " * (2 + len(names)) + "|")
    for kind in (kind for kind in paper if kind in set(table["model"])):
        cells = []
        for name in names:
            rows = table[table["data"] == name]
            difference = mean_difference(rows[rows["model"] == best], rows[rows["model"] == kind], "accuracy_percent")
            cells.append(f"{difference}: {difference.verdict}")
        lines.append(f"| {kind} | {paper[kind]} | " + " | ".join(cells) + " |")
    return lines


def tell_kinds(table: pandas.DataFrame, command: str, best: str, paper: Mapping[str, str]) -> str:
    """Where the rows are from, accuracies and what becomes of the claim."""
    return "\n".join(
        [origin_line(table, command), "", *accuracy_lines(table), "", *claim_lines(table, best, paper), ""]
    )
