"""Which frames of a video make its clips: the options of sampling, and the plan that they give for one video.

Arithmetic only: a plan follows from what is known of a video, before a frame of it is read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .clip_sampling import strided_indices, strided_instants, uniform_indices, uniform_instants
from .video_info import INSTANT_TOLERANCE_SECONDS, WHOLE, Stretch, VideoInfo

SPACINGS = ("fps", "frame_stride", "frame_interval_seconds")
SHORT_CLIPS = ("hold", "error")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipPlan:
    """Which frames of one video make its clips.

    Attributes:
        positions: (num_clips, num_frames), not falling within a clip: float64 instants in seconds after the first
            frame, or int64 numbers of frames from 0.
        may_repeat: whether a clip may hold a frame more than once, as one does that is longer than its video.
    """

    positions: np.ndarray
    may_repeat: bool = True

    @property
    def counts_frames(self) -> bool:
        """Whether positions are numbers of frames."""
        return self.positions.dtype.kind in "iu"

    def check_repeats(self, shown: np.ndarray) -> None:
        """Raises a ValueError where a clip repeats frames and must not.

        Args:
            shown: (clips, num_frames) of the numbers or times of the frames that are really there, not falling.
        """
        if not self.may_repeat and (np.diff(shown, axis=1) <= 0).any():
            raise ValueError(
                f'too short for {shown.shape[1]} different frames as asked for, and `short_clip` is "error"'
            )


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The options that say which frames are taken from a video, see [`FALVideoProcessor`].

    `is_asked_for`: the call gave a spacing.

    Raises:
        ValueError: an option is out of its range, or two contradict one another.
    """

    do_sample_frames: bool | None
    num_frames: int
    fps: float | None
    frame_stride: int | None
    frame_interval_seconds: float | None
    start_seconds: float | None
    end_seconds: float | None
    num_clips: int
    short_clip: Literal["hold", "error"]
    is_asked_for: bool = False

    def __post_init__(self):
        for name in ("num_frames", "num_clips", *SPACINGS):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"`{name}` must be positive and finite, got {value}.")
        if not 0 <= (self.start_seconds or 0.0) < float("inf"):
            raise ValueError(f"`start_seconds` must not be negative, got {self.start_seconds}.")
        if self.end_seconds is not None and not (self.start_seconds or 0.0) < self.end_seconds:
            raise ValueError(f"`end_seconds` must be after `start_seconds`, got {self.end_seconds}.")
        if self.short_clip not in SHORT_CLIPS:
            raise ValueError(f'`short_clip` must be "hold" or "error", got {self.short_clip!r}.')
        if sum(getattr(self, name) is not None for name in SPACINGS) > 1:
            raise ValueError(f"At most one of {', '.join(SPACINGS)} can be set.")
        if self.num_frames is None and self.fps is None:
            raise ValueError("Expected `num_frames` or `fps`, got neither.")

    def plan(
        self, info: VideoInfo, stretch: Stretch = WHOLE, *, frame_seconds: Callable[[], np.ndarray] | None = None
    ) -> ClipPlan:
        """The clips of a file.

        Args:
            info: What is known of it.
            stretch: What of it is taken, as if that were a video by itself.
            frame_seconds: Returns when each frame is shown, (N,) rising seconds after the first frame; asked only
                where frames are to be counted. None: they are not counted, but taken at their mean distance.

        Raises:
            ValueError: the options do not fit the file.
        """
        part = Stretch(0.0, self.end_seconds).within(stretch.within(info))
        if frame_seconds is not None and (self.frame_stride is not None or self._may_be_short(part)):
            begin_seconds = stretch.start_seconds + self._start_within(part.duration_seconds)
            end_seconds = stretch.start_seconds + part.duration_seconds
            start, total = _numbers_shown(frame_seconds(), begin_seconds, end_seconds)
            if self.frame_stride is not None or total - start < self.num_frames:
                numbers = self._numbers(total, start=start, num_frames=self.num_frames, stride=self.frame_stride)
                return self._made(numbers)
        return self._made(stretch.start_seconds + self._instants(part))

    def plan_given(self, num_frames: int, *, rate: float | None) -> ClipPlan:
        """The clips of given frames, of which `rate` make a second where that is known.

        Raises:
            ValueError: the options need a rate, or do not fit so many frames.
        """
        if self.end_seconds is not None:
            num_frames = min(num_frames, max(1, round(self.end_seconds * _known_rate(rate, "`end_seconds`"))))
        plan = self._made(self._numbers(num_frames, **self._counted(num_frames, rate=rate)))
        plan.check_repeats(plan.positions)
        return plan

    def clip_seconds(self, info: VideoInfo) -> float | None:
        """Length of a clip of a file, from its first frame to the end of its last one; None: clips span the file."""
        if self.frame_interval_seconds is not None:
            return self.num_frames * self.frame_interval_seconds
        if self.frame_stride is not None:
            return self.num_frames * self.frame_stride / _known_rate(info.frame_rate, "`frame_stride`")
        return None

    def _made(self, positions: np.ndarray) -> ClipPlan:
        return ClipPlan(positions=positions, may_repeat=self.short_clip != "error")

    def _may_be_short(self, info: VideoInfo) -> bool:
        """Whether so few frames may be there that they cannot be spread: the last one is to be held then."""
        if self.frame_interval_seconds is not None or self.fps is not None or info.frame_rate is None:
            return False
        # The mean rate says little of the frames after the start where they come irregularly.
        return (info.duration_seconds - (self.start_seconds or 0.0)) * info.frame_rate < 2 * self.num_frames

    def _instants(self, info: VideoInfo) -> np.ndarray:
        start_seconds = self._start_within(info.duration_seconds)
        shape = {"num_clips": self.num_clips, "start_seconds": start_seconds}
        num_frames = self._count_frames(info.duration_seconds - start_seconds)
        step = self.frame_interval_seconds
        if self.frame_stride is not None:
            step = self.frame_stride / _known_rate(info.frame_rate, "`frame_stride`")
        if step is None:
            return uniform_instants(info.duration_seconds, num_frames, **shape)
        return strided_instants(info.duration_seconds, num_frames, stride_seconds=step, **shape)

    def _counted(self, total_frames: int, *, rate: float | None) -> dict[str, Any]:
        """Start, number of frames and stride, in frames, of which `rate` make a second."""
        start, num_frames, stride = 0, self.num_frames, self.frame_stride
        if self.start_seconds:
            rate = _known_rate(rate, "`start_seconds`")
            start = min(round(self._start_within(total_frames / rate) * rate), total_frames - 1)
        if self.fps is not None:
            num_frames = self._count_frames((total_frames - start) / _known_rate(rate, "`fps`"))
        if self.frame_interval_seconds is not None:
            stride = self.frame_interval_seconds * _known_rate(rate, "`frame_interval_seconds`")
        return {"start": start, "num_frames": num_frames, "stride": stride}

    def _numbers(self, total_frames: int, *, start: int, num_frames: int, stride: float | None) -> np.ndarray:
        if stride is None:
            return uniform_indices(total_frames, num_frames, num_clips=self.num_clips, start=start)
        return strided_indices(total_frames, num_frames, stride=stride, num_clips=self.num_clips, start=start)

    def _count_frames(self, duration_seconds: float) -> int:
        return self.num_frames if self.fps is None else max(1, int(duration_seconds * self.fps + 1e-6))

    def _start_within(self, duration_seconds: float) -> float:
        start_seconds = self.start_seconds or 0.0
        if start_seconds >= duration_seconds:
            raise ValueError(f"ends at {duration_seconds:.3f} s, before `start_seconds`, which is {start_seconds} s")
        return start_seconds


def _numbers_shown(frame_seconds: np.ndarray, begin_seconds: float, end_seconds: float) -> tuple[int, int]:
    """The number of the frame on display at an instant, and how many frames begin before another, later one."""
    start = np.searchsorted(frame_seconds, begin_seconds + INSTANT_TOLERANCE_SECONDS, side="right") - 1
    behind = np.searchsorted(frame_seconds, end_seconds - INSTANT_TOLERANCE_SECONDS)
    return max(0, int(start)), max(1, int(start) + 1, int(behind))


def _known_rate(rate: float | None, option: str) -> float:
    if not rate:
        raise ValueError(f"{option} needs the frame rate, which is unknown; give `fps` in `video_metadata`")
    return rate


__all__ = ["ClipPlan", "Sampling"]
