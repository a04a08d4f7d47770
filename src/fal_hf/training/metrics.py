"""
Figures of video classification: one label or several, clip by clip and video by video, with intervals; and what
probabilities are worth.

Accuracy, precision, recall and F1 come from `evaluate`; where its metric scripts cannot be had, offline for instance,
scikit-learn gives the same figures.
"""

import math
import warnings
from collections.abc import Sequence
from functools import cache

import evaluate
import numpy as np
import torch
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning
from torch.nn.functional import logsigmoid, one_hot

from ..labeling.aggregation import MULTI_LABEL, mean_probabilities
from ..model.label_space import LabelSpace
from ..model.label_tree import FALLabelTree

AVERAGES = ("macro", "weighted")
THRESHOLD = 0.5
RESAMPLES = 2000
# Of a reliability diagram (Guo et al., 2017).
NUM_BINS = 15
# Videos whose likelihood is computed at once.
VIDEOS_AT_ONCE = 1024


@cache
def load_metric(name: str, config_name: str | None = None):
    """The metric of `evaluate`; None where the metrics' scripts cannot be had."""
    return evaluate.load(name, config_name) if scripts_can_be_had() else None


@cache
def scripts_can_be_had() -> bool:
    try:
        evaluate.load("accuracy")
    except OSError:
        return False
    return True


def compute_metric(name: str, predictions: np.ndarray, references: np.ndarray, *, average: str | None = None) -> float:
    """
    Accuracy, precision, recall or F1.

    Args:
        name: "accuracy", "precision", "recall" or "f1".
        predictions, references: (N,) class indices, or (N, num_labels) of 0 and 1.
        average: "macro", "weighted" and so on, as scikit-learn has them; not for accuracy.
    """
    metric = load_metric(name, "multilabel" if references.ndim == 2 else None)
    options = {} if average is None else {"average": average}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # a label that never comes counts as 0
        if metric is not None:
            figures = metric.compute(predictions=predictions, references=references, **options)
            return figures[name]  # pyright: ignore[reportOptionalSubscript]  # None in further processes alone
        return float(getattr(sklearn_metrics, f"{name}_score")(references, predictions, **options))


def video_scores(view_logits: torch.Tensor, problem_type: str) -> torch.Tensor:
    """(N, views, num_labels) logits to the scores of the videos, (N, num_labels): means of probabilities."""
    return torch.stack([mean_probabilities(logits, problem_type) for logits in view_logits])


def decide(scores: np.ndarray, problem_type: str) -> np.ndarray:
    """(N, num_labels) scores to class indices (N,), or to 0 and 1 (N, num_labels)."""
    return (scores >= THRESHOLD).astype(np.int64) if problem_type == MULTI_LABEL else scores.argmax(axis=1)


def summarize(view_logits: torch.Tensor, labels: torch.Tensor, problem_type: str) -> dict[str, float]:
    """
    The figures of a set of videos.

    Args:
        view_logits: (N, views, num_labels).
        labels: (N,) class indices, or (N, num_labels) of 0 and 1.
        problem_type: Whether a video has one label.

    Returns:
        `accuracy` (of several labels: all of them right), `clip_accuracy` of single views, `precision`, `recall` and
        `f1`, macro and weighted; `top5_accuracy` with more than five classes; `mean_average_precision` of several
        labels.
    """
    scores, references = video_scores(view_logits, problem_type).numpy(), labels.numpy()
    predictions = decide(scores, problem_type)
    clips = video_scores(view_logits.flatten(0, 1)[:, None], problem_type).numpy()
    clip_references = references.repeat(view_logits.shape[1], axis=0)
    figures = {
        "accuracy": compute_metric("accuracy", predictions, references),
        "clip_accuracy": compute_metric("accuracy", decide(clips, problem_type), clip_references),
    }
    for name in ("precision", "recall", "f1"):
        for average in AVERAGES:
            figures[f"{name}_{average}"] = compute_metric(name, predictions, references, average=average)
    if problem_type == MULTI_LABEL:
        figures["mean_average_precision"] = mean_average_precision(scores, references)
    elif scores.shape[1] > 5:
        figures["top5_accuracy"] = float((np.argsort(-scores)[:, :5] == references[:, None]).any(axis=1).mean())
    return figures


def summarize_levels(
    scores: torch.Tensor, labels: torch.Tensor, space: LabelSpace, problem_type: str
) -> list[dict[str, float]]:
    """
    The figures on each level of a hierarchy, the most general one first.

    A level's scores are those of its labels and of parents, which get the sum of those below or, of several labels,
    the largest. A video whose labels have nothing on a level is left out there; a level of no video is left out.

    Args:
        scores: (N, num_labels) of the videos.
        labels: (N,) class indices, or (N, num_labels) of 0 and 1.
        space: The labels and those above them.
        problem_type: Whether a video has one label.

    Returns:
        For each level `level`, `num_labels`, `num_videos`, `accuracy` and `f1_macro`.
    """
    tree, how = FALLabelTree(space), "amax" if problem_type == MULTI_LABEL else "sum"
    truth = labels if labels.ndim == 2 else one_hot(labels, space.num_labels)
    lifted = tree.lift(scores, how), tree.lift(truth, how)
    figures = []
    for level in range(space.num_levels):
        level_scores, level_truth = (values[:, tree.levels == level].numpy() for values in lifted)
        has_label = level_truth.any(axis=1)
        if has_label.any():
            predictions = decide(level_scores[has_label], problem_type)
            references = decide(level_truth[has_label], problem_type)
            figures.append(
                {
                    "level": level,
                    "num_labels": level_scores.shape[1],
                    "num_videos": int(has_label.sum()),
                    "accuracy": compute_metric("accuracy", predictions, references),
                    "f1_macro": _macro_f1(predictions, references),
                }
            )
    return figures


def _macro_f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """As `compute_metric`; of a single column, which that would take for two classes, as well."""
    if references.ndim == 1:
        return compute_metric("f1", predictions, references, average="macro")
    columns = zip(predictions.T, references.T, strict=True)
    return float(np.mean([compute_metric("f1", *column, average="binary") for column in columns]))


def mean_average_precision(scores: np.ndarray, references: np.ndarray) -> float:
    """The mean over the labels that some video has of the average precision; NaN where none has one."""
    present = references.any(axis=0)
    if not present.any():
        return float("nan")
    return float(sklearn_metrics.average_precision_score(references[:, present], scores[:, present], average="macro"))


def per_class_table(
    predictions: np.ndarray, references: np.ndarray, labels: Sequence[str], scores: np.ndarray | None = None
) -> list[dict]:
    """
    For each label: `precision`, `recall`, `f1` and `support`, the number of videos that have it.

    Args:
        predictions, references: (N,) class indices, or (N, num_labels) of 0 and 1.
        labels: Their names.
        scores: (N, num_labels) in [0, 1], of several labels: each then has `average_precision`, None where no video
            has it, and `calibration_error` too.
    """
    columns: tuple[np.ndarray, ...]  # without an average; scikit-learn has no hints, and its defaults mislead
    columns = sklearn_metrics.precision_recall_fscore_support(  # pyright: ignore[reportAssignmentType]  # see above
        references,
        predictions,
        labels=range(len(labels)),
        average=None,
        zero_division=0.0,  # pyright: ignore[reportArgumentType]  # the default, a str, is taken for the type
    )
    names = ("precision", "recall", "f1", "support")
    rows = [
        {"label": label, **{name: column[index].item() for name, column in zip(names, columns, strict=True)}}
        for index, label in enumerate(labels)
    ]
    if scores is not None:
        for index, row in enumerate(rows):
            truth, of_label = references[:, [index]], scores[:, [index]]
            row["average_precision"] = mean_average_precision(of_label, truth) if truth.any() else None
            row["calibration_error"] = calibration_error(of_label, truth)
    return rows


def reliability_table(scores: np.ndarray, references: np.ndarray) -> list[dict]:
    """
    How often videos are right by how sure the classifier is, in bins of equal width (Guo et al., 2017, section 2).

    Args:
        scores: (N, num_labels) of the videos, in [0, 1].
        references: (N,) class indices: the best label's score is looked at, and whether it is true; or 0 and 1,
            (N, num_labels): every label's score is, and whether that label is there.

    Returns:
        For each bin, from 0 on: `count`, and unless that is 0 the means `confidence` and `accuracy`, else None.
    """
    if references.ndim == 1:
        confidence, is_right = scores.max(axis=1), scores.argmax(axis=1) == references
    else:
        confidence, is_right = scores.ravel(), references.ravel()
    bins = np.digitize(confidence, np.arange(1, NUM_BINS) / NUM_BINS, right=True)
    counts, sums = np.bincount(bins, minlength=NUM_BINS), []
    for values in (confidence, is_right):
        sums.append(np.bincount(bins, weights=values, minlength=NUM_BINS))
    return [
        {
            "count": count,
            "confidence": float(sure) / count if count else None,
            "accuracy": float(right) / count if count else None,
        }
        for count, sure, right in zip(counts.tolist(), *sums, strict=True)
    ]


def calibration_error(scores: np.ndarray, references: np.ndarray) -> float:
    """The expected calibration error (Guo et al., 2017, equation 3), of what [`reliability_table`] takes."""
    rows = [row for row in reliability_table(scores, references) if row["count"]]
    total = sum(row["count"] for row in rows)
    return sum(row["count"] / total * abs(row["accuracy"] - row["confidence"]) for row in rows)


def negative_log_likelihood(
    view_logits: torch.Tensor, labels: torch.Tensor, problem_type: str, *, temperature: float = 1.0
) -> float:
    """
    The mean over videos of -ln p, where p is the score, a mean over views, of what is true: of the video's label; of
    several labels the mean over these, each of which is there or is not.

    Args:
        view_logits: (N, views, num_labels).
        labels: (N,) class indices, or (N, num_labels) of 0 and 1.
        problem_type: Whether a video has one label.
        temperature: What logits are divided by.
    """
    total = 0.0
    parts = zip(view_logits.split(VIDEOS_AT_ONCE), labels.split(VIDEOS_AT_ONCE), strict=True)
    for logits, truth in parts:
        logits = logits.double() / temperature
        if problem_type == MULTI_LABEL:
            logs = logsigmoid(logits * (2 * truth[:, None] - 1))
        else:
            logs = logits.log_softmax(dim=-1).gather(-1, truth[:, None, None].expand(-1, logits.shape[1], 1))
        logs = logs.logsumexp(dim=1) - math.log(logs.shape[1])  # of the mean over views
        total -= logs.mean(dim=-1).sum().item()
    return total / len(labels)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, as if videos were independent."""
    interval = binomtest(correct, total).proportion_ci(method="wilson")
    return interval.low, interval.high


def group_interval(is_correct: np.ndarray, groups: Sequence[str], *, seed: int = 0) -> tuple[float, float]:
    """
    The 95 % interval of a share where videos of one group (a film, say) are right or wrong together.

    Whole groups are drawn with replacement, `RESAMPLES` times.

    Args:
        is_correct: (N,) bool.
        groups: (N,) names.
        seed: Of the drawing.
    """
    _, rows = np.unique(np.asarray(groups), return_inverse=True)
    correct, total = np.bincount(rows, weights=is_correct), np.bincount(rows)
    drawn = np.random.default_rng(seed).integers(len(total), size=(RESAMPLES, len(total)))
    shares = correct[drawn].sum(axis=1) / total[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975]).tolist()
    return low, high


def majority_share(references: np.ndarray) -> float:
    """The accuracy of always naming the most frequent class."""
    return float(np.bincount(references).max() / len(references))
