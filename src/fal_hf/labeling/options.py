"""What may be asked of a labeler: views of a video, segments of a timeline, a hierarchy above the labels.

Nothing here needs torch, so that wrong usage is found before it is imported.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

# The five scales of the paper, section 4.
PAPER_SCALES = (0.6, 0.8, 1.0, 1.2, 1.4)


@dataclass(frozen=True, kw_only=True)
class Views:
    """
    Which views of a video are scored.

    Args:
        num_clips: Clips of the video, or of each window; None: the processor's own number, with windows 1.
        num_crops: 1 (the middle) or 3 (along the longer side).
        scales: Resolutions, as shares of the checkpoint's own; the size of a crop is rounded to whole patches.
        windows: Whether windows of the same length tile the video, each of which is scored like a video by itself.
        window_seconds: Length of a window; None: of one clip where the checkpoint names a distance of the frames,
            else 10 seconds.
        hop_seconds: Distance of two windows' beginnings; None: a window, no overlap.

    Raises:
        ValueError: a number is out of its range.
    """

    num_clips: int | None = None
    num_crops: int = 1
    scales: tuple[float, ...] = (1.0,)
    windows: bool = False
    window_seconds: float | None = None
    hop_seconds: float | None = None

    def __post_init__(self):
        if self.num_clips is not None and self.num_clips < 1:
            raise ValueError(f"num_clips: expected at least 1, got {self.num_clips}")
        if self.num_crops not in (1, 3):
            raise ValueError(f"num_crops: expected 1 or 3, got {self.num_crops}")
        if not self.scales or not all(0 < scale <= 4 for scale in self.scales):
            raise ValueError(f"scales: expected one or more numbers above 0 and up to 4, got {self.scales}")
        if not self.windows and (self.window_seconds, self.hop_seconds) != (None, None):
            raise ValueError("window_seconds and hop_seconds: expected windows=True with them, got windows=False")
        for name in ("window_seconds", "hop_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < float("inf"):
                raise ValueError(f"{name}: expected a number above 0, got {seconds}")
        if self.window_seconds is not None and (self.hop_seconds or 0) > self.window_seconds:
            raise ValueError(
                f"hop_seconds: expected at most window_seconds, {self.window_seconds}, got {self.hop_seconds}; "
                "windows further apart leave out what is between them"
            )


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """
    How the scores of windows become segments.

    Args:
        threshold: A segment begins where its label's score reaches this, in (0, 1].
        hysteresis: It goes on while the score is no more than this below the threshold, in [0, threshold).
        min_seconds: Shorter segments are left out, at least 0.

    Raises:
        ValueError: a number is out of its range.
    """

    threshold: float = 0.5
    hysteresis: float = 0.1
    min_seconds: float = 0.0

    def __post_init__(self):
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold: expected a number in (0, 1], got {self.threshold}")
        if not 0 <= self.hysteresis < self.threshold:
            raise ValueError(f"hysteresis: expected a number in [0, {self.threshold}), got {self.hysteresis}")
        if not 0 <= self.min_seconds < float("inf"):
            raise ValueError(f"min_seconds: expected a number of at least 0, got {self.min_seconds}")


def read_parents(path: str | PathLike) -> dict[str, str]:
    """
    Reads the JSON file of a label hierarchy: an object of label and parent.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else; names the file.
    """
    try:
        parents = json.loads(Path(path).read_text(encoding="utf-8"))
        check_parents(parents)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    return parents


def check_parents(parents: Mapping[str, str]) -> None:
    """Refuses what is no mapping of label to parent, an empty one, and one with a circle."""
    if not isinstance(parents, Mapping) or not all(isinstance(name, str) and name for name in parents.values()):
        raise ValueError('expected an object of label and parent, {"pan_left": "pan", ...}')
    if not parents:
        raise ValueError('expected a parent at least, {"pan_left": "pan", ...}, got none')
    for name in parents:
        ancestors(name, parents)


def ancestors(label: str, parents: Mapping[str, str]) -> list[str]:
    """What stands above a label, from its parent up; a ValueError where it is its own ancestor."""
    found: list[str] = []
    parent = parents.get(label)
    while parent is not None:
        if parent in found:
            raise ValueError(f"{parent}: expected a hierarchy, got a label that is its own ancestor")
        found.append(parent)
        parent = parents.get(parent)
    return found


__all__ = ["PAPER_SCALES", "Timeline", "Views", "ancestors", "check_parents", "read_parents"]
