"""An evaluation as a page: figures with intervals, confusions, reliability, labels, the most confident mistakes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from ..model.video_source import VideoError, reported
from ..training.data import refuse_empty
from ..training.metrics import NUM_BINS, wilson_interval
from ..training.report import EvaluationReport, Prediction
from .page import check_page, data_uri, write_page
from .thumbnails import thumbnails

MOST_PAIRS = 20
MOST_UNREADABLE = 100
# Cells that HTML lets one span.
MOST_COLUMNS = 1000
# Labels from which on the cells of the confusion matrix are small.
MANY_LABELS = 24


@dataclass
class ReportArguments:
    """The page of an evaluation."""

    _argument_group_name = "report"

    report: str | None = field(
        default=None,
        metadata={"help": "A page with figures, confusions, reliability and mistakes as pictures, an .html file."},
    )
    report_mistakes: int = field(default=12, metadata={"help": "Its most confident mistakes; 0: none."})

    def __post_init__(self):
        refuse_empty(self, ["report"])
        if self.report is not None:
            check_page(self.report)
        if self.report_mistakes < 0:
            raise ValueError(f"--report_mistakes: expected at least 0, got {self.report_mistakes}")


def write_report(report: EvaluationReport, path: str | os.PathLike, *, mistakes: int = 12) -> None:
    """
    Writes what an evaluation has found as a page that is one file: it needs no network and no other files.

    Args:
        report: What [`evaluate`] returns.
        path: The page, an `.html` file; its folder is made where it is missing.
        mistakes: How many of the most confident mistakes are shown, by some frames of their videos. Of a video that
            cannot be read any more there is the name.

    Raises:
        ValueError: the path is none of a page.
        OSError: the page cannot be written; what was there before still is.
    """
    check_page(path)
    write_page(path, "evaluation.html", **describe(report, mistakes=mistakes))


def describe(report: EvaluationReport, *, mistakes: int) -> dict[str, Any]:
    """What the template shows."""
    last, counts = report.results[-1], count_labels(report)
    start = common_start([one.clip.path for one in report.predictions])
    levels = [{**row, "interval": interval_of(row["accuracy"], row["num_videos"])} for row in last.get("levels", ())]
    return {
        "report": report,
        "last": last,
        "is_multi_label": report.confusion is None,
        "tiles": list(list_tiles(last, is_multi_label=report.confusion is None)),
        "levels": levels,
        "labels": [describe_label(row, counts) for row in report.per_class],
        "bins": [{**row, "number": number} for number, row in enumerate(report.reliability) if row["count"]],
        "num_bins": NUM_BINS,
        "most_in_bin": max((row["count"] for row in report.reliability), default=0),
        "pairs": [] if report.confusion is None else list_pairs(report.confusion, report.labels),
        "matrix": [] if report.confusion is None else list(list_rows(report.confusion)),
        "has_many_labels": len(report.labels) > MANY_LABELS,
        "num_mistakes": len(report.mistakes),
        "mistakes": [describe_mistake(one, start) for one in most_confident(report, mistakes)],
        "unreadable": [(name.removeprefix(start), reason) for (name, _), reason in report.unreadable.items()][
            :MOST_UNREADABLE
        ],
        "num_unreadable": len(report.unreadable),
    }


# ---- figures


def interval_of(share: float, total: int) -> tuple[float, float]:
    """The 95 % interval (Wilson) of a share of so many videos."""
    return wilson_interval(round(share * total), total)


@dataclass(frozen=True)
class Tile:
    """A headline figure: its name, a share, what it means and, of a share of videos, its interval."""

    name: str
    share: float
    note: str
    interval: tuple[float, float] | None = None


def list_tiles(figures: dict[str, Any], *, is_multi_label: bool) -> Iterator[Tile]:
    """The headline figures."""
    meaning = "all labels of a video are right" if is_multi_label else "videos with the right label"
    yield Tile("Accuracy", figures["accuracy"], meaning, figures["accuracy_interval"])
    if "top5_accuracy" in figures:
        share = figures["top5_accuracy"]
        interval = interval_of(share, figures["num_videos"])
        yield Tile("Top-5 accuracy", share, "the right label is among the best five", interval)
    if "mean_average_precision" in figures:
        note = "average precision, its mean over the labels"
        yield Tile("Mean average precision", figures["mean_average_precision"], note)
    yield Tile("Macro F1", figures["f1_macro"], "every label counts the same")
    if "majority_share" in figures:
        yield Tile("Largest class", figures["majority_share"], "what naming it every time would reach")
    yield Tile("Calibration error", figures["calibration_error"], "how far probabilities are from shares")


@dataclass(frozen=True)
class LabelCounts:
    """How many videos get each label, and how many of them have it."""

    said: Counter[str]
    right: Counter[str]


def count_labels(report: EvaluationReport) -> LabelCounts:
    said = Counter(label for one in report.predictions for label in one.labels)
    right = Counter(label for one in report.predictions for label in one.labels if label in one.clip.labels)
    return LabelCounts(said, right)


def describe_label(row: dict[str, Any], counts: LabelCounts) -> dict[str, Any]:
    """A label's row with intervals; what would be a share of nothing is None."""
    said, right, support = counts.said[row["label"]], counts.right[row["label"]], row["support"]
    return {
        **row,
        "precision": row["precision"] if said else None,
        "recall": row["recall"] if support else None,
        "f1": row["f1"] if said or support else None,
        "precision_interval": wilson_interval(right, said) if said else None,
        "recall_interval": wilson_interval(right, support) if support else None,
    }


# ---- confusions


def list_pairs(matrix: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The labels that are taken for others most often: `true`, `said`, `count`, and its share of the true label's."""
    confused = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-confused, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = []
    for true, said in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if count := int(confused[true, said]):
            share = count / matrix[true].sum()
            pairs.append({"true": labels[true], "said": labels[said], "count": count, "share": share})
    return pairs


def list_rows(matrix: np.ndarray) -> Iterator[list[dict[str, Any]]]:
    """
    The rows of the confusion matrix as cells with `span` columns: one for each number that is not 0, with its `count`,
    `share` of the row and `column`, and one for each run of zeros, so that hundreds of labels are a table still.
    """
    for row in matrix:
        total, cells = row.sum(), []
        for is_empty, columns in groupby(range(len(row)), key=lambda column: row[column] == 0):
            columns = list(columns)
            if is_empty:
                spans = [len(columns[at : at + MOST_COLUMNS]) for at in range(0, len(columns), MOST_COLUMNS)]
                cells += [{"span": span, "count": 0} for span in spans]
            else:
                cells += [
                    {"span": 1, "count": int(row[column]), "share": row[column] / total, "column": column}
                    for column in columns
                ]
        yield cells


# ---- mistakes


def most_confident(report: EvaluationReport, count: int) -> list[Prediction]:
    """The mistakes that the model was most sure of, by the score of the wrong label, of several by the worst one's."""

    def confidence(mistake: Prediction) -> float:
        said, true = set(mistake.labels), set(mistake.clip.labels)
        wrong = said ^ true if report.confusion is None else said
        return max(abs(mistake.scores[label] - (label in true)) for label in wrong)

    return sorted(report.mistakes, key=confidence, reverse=True)[:count]


def describe_mistake(mistake: Prediction, start: str) -> dict[str, Any]:
    """The labels with their probabilities and the pictures, or why there are none."""
    clip = mistake.clip
    pictures, reason = [], None
    try:
        with reported(clip.path):  # a video that is no file of its own may fail before it is opened
            video = clip.video
        pictures = [data_uri(picture) for picture in thumbnails(video, stretch=clip.stretch)]
    except VideoError as error:
        reason = error.reason
    return {
        "name": clip.path.removeprefix(start),
        "stretch": None if clip.stretch.is_whole else (clip.start_seconds, clip.end_seconds),
        "true": [(label, mistake.scores[label]) for label in clip.labels],
        "said": [(label, mistake.scores[label]) for label in mistake.labels],
        "pictures": pictures,
        "reason": reason,
    }


def common_start(paths: Sequence[str]) -> str:
    """The folder that all paths begin with, up to its slash: names need not say it again."""
    start = os.path.commonprefix(list(paths))  # noqa: RUF071, of URLs too
    return start[: start.rfind("/") + 1]


__all__ = ["ReportArguments", "write_report"]
