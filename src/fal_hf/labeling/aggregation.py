"""From the logits of several views of a video to one score for each label, and from windows to timed segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch

from ..model.label_space import LabelSpace
from .options import Timeline, read_parents

MULTI_LABEL = "multi_label_classification"


def label_probabilities(logits: torch.Tensor, problem_type: str | None = None) -> torch.Tensor:
    """
    Probabilities of the labels of each view.

    Args:
        logits: `(views, num_labels)`, any floating dtype.
        problem_type: `"multi_label_classification"`: labels are independent (sigmoid); else one label is right
            (softmax).

    Returns:
        `(views, num_labels)` float32 in [0, 1].

    Raises:
        ValueError: for a regression model, whose outputs are no probabilities.
    """
    check_problem_type(problem_type)
    logits = logits.float()
    return logits.sigmoid() if problem_type == MULTI_LABEL else logits.softmax(dim=-1)


def check_problem_type(problem_type: str | None) -> None:
    """Refuses, by a ValueError, a model whose outputs are no probabilities."""
    if problem_type == "regression":
        raise ValueError("expected a model that classifies, got one with problem_type='regression'")


def mean_probabilities(logits: torch.Tensor, problem_type: str | None = None) -> torch.Tensor:
    """
    The score of each label for a video: the mean of its views' probabilities (paper, section 4.13).

    Args:
        logits: `(views, num_labels)`, any floating dtype.
        problem_type: As for [`label_probabilities`].

    Returns:
        `(num_labels,)` float32 in [0, 1].
    """
    return label_probabilities(logits, problem_type).mean(dim=0)


def average_views(by_view: Sequence[torch.Tensor], scales: Sequence[float]) -> torch.Tensor:
    """
    The scores, or embeddings, of clips from those of their views: the mean over crops, then the weighted mean over
    scales.

    A scale s weighs min(s, 1 / s): the further a resolution is from the one that the model was trained at, the less.
    This is the weighted average over five scales of the paper's section 4, which does not give its weights.

    Args:
        by_view: `(clips, crops, N)` for each scale.
        scales: The resolutions, as shares of the model's own.

    Returns:
        `(clips, N)`.
    """
    weights = torch.tensor([min(scale, 1 / scale) for scale in scales], dtype=torch.float32)
    by_scale = torch.stack([crops.mean(dim=1) for crops in by_view])
    return torch.einsum("s,scl->cl", weights / weights.sum(), by_scale) if len(scales) > 1 else by_scale[0]


def with_reused(by_clip: torch.Tensor, reused: Sequence[int], *, num_clips: int) -> torch.Tensor:
    """
    The scores, or embeddings, of all windows' clips, `(clips, N)`, from those of the windows that were scored.

    Args:
        by_clip: Of the clips that went through the model, `(clips, N)`.
        reused: For each window that did not the number of that whose scores it takes over.
        num_clips: Clips of a window.
    """
    by_window = by_clip.unflatten(0, (-1, num_clips))
    times = 1 + torch.bincount(torch.tensor(reused, dtype=torch.long), minlength=len(by_window))
    return by_window.repeat_interleave(times, dim=0).flatten(0, 1)


class LabelHierarchy:
    """
    Labels above a model's labels, and their scores.

    A parent's score is the sum of the scores of all labels below it where one label is right (softmax), and the
    largest of them where labels are independent (multi-label). A parent that is a label of the model itself counts
    itself among them.

    Args:
        parents: Label to its parent. Parents may have parents.
        labels: The model's labels, in the order of its scores.

    Raises:
        ValueError: there are no parents, a name is neither a label nor a parent, or a label is its own ancestor.
    """

    def __init__(self, parents: Mapping[str, str], labels: Sequence[str]):
        space = LabelSpace.of(labels, parents)
        self.parents = dict(parents)
        self.labels = tuple(dict.fromkeys(parents.values()))
        rows = {parent: row for row, parent in enumerate(self.labels)}
        paths = [[rows.get(space.names[number]) for number in space.path(label)] for label in range(space.num_labels)]
        places = [(row, label) for label, path in enumerate(paths) for row in path if row is not None]
        self.members = torch.zeros(len(rows), space.num_labels, dtype=torch.bool)
        self.members[tuple(torch.tensor(places).T)] = True

    @classmethod
    def load(cls, parents: Mapping[str, str] | str | PathLike, labels: Sequence[str]) -> "LabelHierarchy":
        """Takes a mapping, or reads a JSON file of one; a ValueError names the file and what is wrong with it."""
        return cls(parents if isinstance(parents, Mapping) else read_parents(parents, labels), labels)

    def scores(self, probabilities: torch.Tensor, problem_type: str | None = None) -> torch.Tensor:
        """`(..., num_labels)` scores of the model's labels to `(..., num_parents)` scores of the parents."""
        if problem_type == MULTI_LABEL:
            return torch.stack([probabilities[..., members].amax(dim=-1) for members in self.members], dim=-1)
        return (probabilities @ self.members.T.to(probabilities.dtype)).clamp(max=1.0)


# ---- windows to segments ----


@dataclass(frozen=True)
class Segment:
    """
    A stretch of a video with one label.

    Args:
        label: The label.
        start_seconds: Where it begins, after the first frame.
        end_seconds: Where it ends.
        score: Mean of the label's scores over the segment's windows, in [0, 1].
        peak: The largest of them.
    """

    label: str
    start_seconds: float
    end_seconds: float
    score: float
    peak: float


def window_borders(starts: np.ndarray, window_seconds: float, duration_seconds: float) -> np.ndarray:
    """
    The stretch of time that each window speaks for: what is nearer to its middle than to any other's.

    Windows that do not overlap speak for all of themselves.

    Args:
        starts: `(num_windows,)` rising seconds where the windows begin.
        window_seconds: Length of a window.
        duration_seconds: Length of the video.

    Returns:
        `(num_windows + 1,)` rising seconds from the beginning of the first window to the end of the video.
    """
    between = (starts[:-1] + starts[1:] + window_seconds) / 2
    return np.concatenate([starts[:1], between, [duration_seconds]])


def find_segments(
    scores: np.ndarray, borders: np.ndarray, labels: Sequence[str], timeline: Timeline, *, exclusive: bool
) -> list[Segment]:
    """
    Merges consecutive windows of a label.

    Args:
        scores: `(num_windows, num_labels)` in [0, 1].
        borders: `(num_windows + 1,)` seconds: window i speaks for the time from borders[i] to borders[i + 1].
        labels: Name of each column.
        timeline: Threshold, hysteresis and minimum length.
        exclusive: Whether at most one label holds at a time: then a label ends where another reaches the threshold
            with a higher score. Otherwise each label is a track of its own, and tracks overlap.

    Returns:
        Segments by start, end and label.
    """
    is_on = (_exclusive_track if exclusive else _independent_tracks)(scores, timeline)
    segments = []
    for column, label in enumerate(labels):
        for first, behind in _runs(is_on[:, column]):
            start, end = float(borders[first]), float(borders[behind])
            if end - start >= timeline.min_seconds:
                held = scores[first:behind, column]
                segments.append(Segment(label, start, end, float(held.mean()), float(held.max())))
    return sorted(segments, key=lambda segment: (segment.start_seconds, segment.end_seconds, segment.label))


def _independent_tracks(scores: np.ndarray, timeline: Timeline) -> np.ndarray:
    """(num_windows, num_labels) bool: where each label holds."""
    is_on = np.zeros(scores.shape, dtype=bool)
    state = np.zeros(scores.shape[1], dtype=bool)
    for row, window in enumerate(scores):
        state = (window >= timeline.threshold) | (state & (window >= timeline.threshold - timeline.hysteresis))
        is_on[row] = state
    return is_on


def _exclusive_track(scores: np.ndarray, timeline: Timeline) -> np.ndarray:
    """(num_windows, num_labels) bool with at most one True a row."""
    is_on = np.zeros(scores.shape, dtype=bool)
    current = None
    for row, window in enumerate(scores):
        best = int(window.argmax())
        if window[best] >= timeline.threshold:
            current = best
        elif current is not None and window[current] < timeline.threshold - timeline.hysteresis:
            current = None
        if current is not None:
            is_on[row, current] = True
    return is_on


def _runs(is_on: np.ndarray) -> list[tuple[int, int]]:
    """First row of each stretch of True, and the row behind it."""
    changes = np.flatnonzero(np.diff(is_on.astype(np.int8), prepend=0, append=0))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))


__all__ = [
    "LabelHierarchy",
    "Segment",
    "Timeline",
    "average_views",
    "check_problem_type",
    "find_segments",
    "label_probabilities",
    "mean_probabilities",
    "window_borders",
    "with_reused",
]
