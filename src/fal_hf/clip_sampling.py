"""Which instants, or which frame numbers, make a clip. Arithmetic only: no video is touched here.

Two manners: *uniform* spreads the frames of a clip over the whole video, *strided* takes them at a fixed distance from
a start. Instants are seconds from the first frame and say when to look; the frame on display then is the clip's frame.

A clip that is longer than the video holds the video's last frame: instants and numbers that would fall behind the end
are set to the last one there is. So a video of fewer frames than a clip needs gives every frame in order, some of them
repeated.
"""

import math
from numbers import Integral, Real

import numpy as np


def uniform_instants(duration_seconds: float, num_frames: int, *, num_clips: int = 1) -> np.ndarray:
    """The midpoints of equal parts of a video.

    With several clips every clip spans the whole video, and their instants interleave: all of them together, sorted,
    are the instants of one clip of num_clips * num_frames frames.

    Args:
        duration_seconds: length of the video, positive.
        num_frames: frames per clip, at least 1.
        num_clips: number of clips, at least 1.

    Returns:
        (num_clips, num_frames) float64 seconds, rising within a clip, all inside (0, duration_seconds).

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_positive("duration_seconds", duration_seconds)
    _check_count("num_frames", num_frames)
    _check_count("num_clips", num_clips)
    parts = num_clips * num_frames
    midpoints = (np.arange(parts, dtype=np.float64) + 0.5) * (duration_seconds / parts)
    return np.ascontiguousarray(midpoints.reshape(num_frames, num_clips).T)


def strided_instants(
    duration_seconds: float, num_frames: int, *, stride_seconds: float, start_seconds: float = 0.0
) -> np.ndarray:
    """Instants at a fixed distance from a start; those behind the end become the end, where the last frame is held.

    Args:
        duration_seconds: length of the video, positive.
        num_frames: frames of the clip, at least 1.
        stride_seconds: distance of two frames, positive.
        start_seconds: instant of the first frame, at least 0 and before the end.

    Returns:
        (num_frames,) float64 seconds in [start_seconds, duration_seconds].

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_positive("duration_seconds", duration_seconds)
    _check_count("num_frames", num_frames)
    _check_positive("stride_seconds", stride_seconds)
    _check_start("start_seconds", start_seconds, "duration_seconds", duration_seconds)
    instants = start_seconds + stride_seconds * np.arange(num_frames, dtype=np.float64)
    return np.minimum(instants, duration_seconds)


def uniform_indices(total_frames: int, num_frames: int, *, num_clips: int = 1) -> np.ndarray:
    """Frame numbers on display at the `uniform_instants` of a video whose frames last equally long.

    Args:
        total_frames: frames of the video, at least 1.
        num_frames: frames per clip, at least 1.
        num_clips: number of clips, at least 1; they interleave.

    Returns:
        (num_clips, num_frames) int64 in [0, total_frames), not falling within a clip. With fewer frames than
        num_frames, frames are repeated.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_count("total_frames", total_frames)
    _check_count("num_frames", num_frames)
    _check_count("num_clips", num_clips)
    parts = num_clips * num_frames
    # floor((i + 1/2) * total / parts) in whole numbers: rounding must not move a frame.
    midpoints = (2 * np.arange(parts, dtype=np.int64) + 1) * total_frames // (2 * parts)
    return np.ascontiguousarray(midpoints.reshape(num_frames, num_clips).T)


def strided_indices(total_frames: int, num_frames: int, *, stride: int, start: int = 0) -> np.ndarray:
    """Frame numbers at a fixed distance from a start; those behind the end become the last frame's.

    Args:
        total_frames: frames of the video, at least 1.
        num_frames: frames of the clip, at least 1.
        stride: distance of two frames, at least 1.
        start: number of the first frame, in [0, total_frames).

    Returns:
        (num_frames,) int64 in [start, total_frames).

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_count("total_frames", total_frames)
    _check_count("num_frames", num_frames)
    _check_count("stride", stride)
    if not isinstance(start, Integral):
        raise ValueError(f"start: expected a whole number of frames, got {start!r}")
    _check_start("start", start, "total_frames", total_frames)
    return np.minimum(start + stride * np.arange(num_frames, dtype=np.int64), total_frames - 1)


def clip_starts(duration_seconds: float, clip_seconds: float, num_clips: int) -> np.ndarray:
    """Where clips of one length begin, spread evenly: the first at the start, the last one ending at the end.

    A single clip lies in the middle. Clips as long as the video or longer all begin at 0.

    Args:
        duration_seconds: length of the video, positive.
        clip_seconds: length of a clip from its first frame to the end of its last one, positive.
        num_clips: number of clips, at least 1.

    Returns:
        (num_clips,) float64 seconds in [0, duration_seconds), not falling.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_positive("duration_seconds", duration_seconds)
    _check_positive("clip_seconds", clip_seconds)
    _check_count("num_clips", num_clips)
    latest = max(0.0, duration_seconds - clip_seconds)
    if num_clips == 1:
        return np.array([latest / 2])
    return np.linspace(0.0, latest, num_clips)


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a positive, finite number, got {value!r}")


def _check_start(name: str, value: float, end_name: str, end: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < end:
        raise ValueError(f"{name}: expected a number in [0, {end}), got {value!r}; choose one before {end_name}")
