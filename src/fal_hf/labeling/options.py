"""What may be asked of a labeler: views of a video, segments of a timeline, a hierarchy above the labels.

Nothing here needs torch, so that wrong usage is found before it is imported.
"""

from dataclasses import dataclass

from ..model.label_space import read_parents

# The five scales of the paper, section 4.
PAPER_SCALES = (0.6, 0.8, 1.0, 1.2, 1.4)
# By how much a patch of a camera that stands differs, in levels of 8 bits, for the noise of its sensor and its codec.
STATIC_LEVELS = 6.0
# How explanations are made; the default comes first.
EXPLANATION_METHODS = ("gradient", "rollout")
# How collections become maps, in words; the default comes first.
MAP_METHODS = {"tsne": "Drawn by t-SNE", "pca": "Drawn by the two directions in which embeddings differ most (PCA)"}


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
        reuse_static: A window in which no patch of the model differs by more than this from the last window that was
            scored, in levels of 8 bits (mean absolute difference of the patch), takes over its scores;
            `STATIC_LEVELS`, 6, is more than the noise of most cameras. None: all windows are scored.

    Raises:
        ValueError: a number is out of its range.
    """

    num_clips: int | None = None
    num_crops: int = 1
    scales: tuple[float, ...] = (1.0,)
    windows: bool = False
    window_seconds: float | None = None
    hop_seconds: float | None = None
    reuse_static: float | None = None

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
        if self.reuse_static is not None:
            if not self.windows:
                raise ValueError("reuse_static: expected windows=True with it, got windows=False")
            check_levels(self.reuse_static)


def check_levels(levels: float) -> None:
    """Refuses, by a ValueError, what is no difference of pixels."""
    if not 0 < levels <= 255:
        raise ValueError(f"reuse_static: expected levels above 0 and up to 255, got {levels}")


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


__all__ = [
    "EXPLANATION_METHODS",
    "MAP_METHODS",
    "PAPER_SCALES",
    "STATIC_LEVELS",
    "Timeline",
    "Views",
    "check_levels",
    "read_parents",
]
