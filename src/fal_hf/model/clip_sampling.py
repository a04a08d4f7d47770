"""Which instants, or which frame numbers, make the clips of a video. Arithmetic only: no video is touched here.

Two manners: *uniform* spreads the frames of a clip over the whole video, *strided* takes them at a fixed distance.
Instants are seconds from the first frame; the frame on display at an instant is the clip's frame. Every function
returns one row a clip.

A clip that is longer than the video holds the last frame: what would fall behind the end becomes the last one there
is. A video of fewer frames than a clip has thus gives each of them in order, then the last one again.
"""

import math
from numbers import Integral, Real

import numpy as np

# A header may promise any length: more windows than this, weeks of video, are not planned.
MAX_WINDOWS = 1_000_000


def uniform_instants(
    duration_seconds: float, num_frames: int, *, num_clips: int = 1, start_seconds: float = 0.0
) -> np.ndarray:
    """The midpoints of equal parts of a video.

    Several clips interleave: each spans the whole video, and all their instants together, sorted, are those of one
    clip of num_clips * num_frames frames.

    Args:
        duration_seconds: length of the video, positive.
        num_frames: frames per clip, at least 1.
        num_clips: number of clips, at least 1.
        start_seconds: what is before this instant is left out; at least 0 and before the end.

    Returns:
        (num_clips, num_frames) float64 seconds inside (start_seconds, duration_seconds), rising within a clip.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_positive("duration_seconds", duration_seconds)
    _check_start("start_seconds", start_seconds, "duration_seconds", duration_seconds)
    midpoints = _midpoints(num_frames, num_clips)
    return start_seconds + (duration_seconds - start_seconds) * midpoints / (2 * midpoints.size)


def strided_instants(
    duration_seconds: float,
    num_frames: int,
    *,
    stride_seconds: float,
    num_clips: int = 1,
    start_seconds: float = 0.0,
) -> np.ndarray:
    """Instants at a fixed distance; those behind the end become the end, where the last frame is held.

    Args:
        duration_seconds: length of the video, positive.
        num_frames: frames per clip, at least 1.
        stride_seconds: distance of two frames, positive.
        num_clips: number of clips, at least 1; they begin at the `clip_starts`.
        start_seconds: instant of the first frame, at least 0 and before the end.

    Returns:
        (num_clips, num_frames) float64 seconds in [start_seconds, duration_seconds], not falling within a clip.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_count("num_frames", num_frames)
    _check_positive("stride_seconds", stride_seconds)
    span_seconds = num_frames * stride_seconds
    starts = clip_starts(duration_seconds, span_seconds, num_clips=num_clips, start_seconds=start_seconds)
    return np.minimum(starts[:, None] + stride_seconds * np.arange(num_frames), duration_seconds)


def random_instants(
    duration_seconds: float,
    num_frames: int,
    *,
    stride_seconds: float | None = None,
    generator: np.random.Generator,
) -> np.ndarray:
    """The instants of one clip at random, as training takes them.

    With a stride the clip begins anywhere as long as it fits, and at the start where it does not. Without one it spans
    the whole video: an instant anywhere in each of `num_frames` equal parts.

    Args:
        duration_seconds: length of the video, positive.
        num_frames: frames of the clip, at least 1.
        stride_seconds: distance of two frames, positive; None: spread over the video.
        generator: where the randomness comes from.

    Returns:
        (1, num_frames) float64 seconds in [0, duration_seconds], not falling.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_positive("duration_seconds", duration_seconds)
    _check_count("num_frames", num_frames)
    if stride_seconds is None:
        return (np.arange(num_frames) + generator.random((1, num_frames))) * duration_seconds / num_frames
    _check_positive("stride_seconds", stride_seconds)
    start = generator.random() * max(0.0, duration_seconds - num_frames * stride_seconds)
    return np.minimum(start + stride_seconds * np.arange(num_frames), duration_seconds)[None]


def clip_starts(
    duration_seconds: float, clip_seconds: float, *, num_clips: int, start_seconds: float = 0.0
) -> np.ndarray:
    """Where clips of one length begin, spread evenly: the first at the start, the last one ending at the end.

    Clips that do not fit between the start and the end all begin at the start.

    Args:
        duration_seconds: length of the video, positive.
        clip_seconds: length of a clip from its first frame to the end of its last one, positive.
        num_clips: number of clips, at least 1.
        start_seconds: where the first clip begins, at least 0 and before the end.

    Returns:
        (num_clips,) float64 seconds in [start_seconds, duration_seconds), not falling.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_positive("duration_seconds", duration_seconds)
    _check_positive("clip_seconds", clip_seconds)
    _check_count("num_clips", num_clips)
    _check_start("start_seconds", start_seconds, "duration_seconds", duration_seconds)
    return np.linspace(start_seconds, max(start_seconds, duration_seconds - clip_seconds), num_clips)


def window_starts(
    duration_seconds: float, window_seconds: float, *, hop_seconds: float | None = None, start_seconds: float = 0.0
) -> np.ndarray:
    """Where windows of one length begin that tile a video, the last one ending with the video (paper, section 4.13).

    The last window begins less than a hop after the one before it, so that it holds as much video as all others.

    Args:
        duration_seconds: length of the video, positive.
        window_seconds: length of a window, positive; longer than the video, it is one window.
        hop_seconds: distance of two beginnings, positive and no longer than a window; None: a window, no overlap.
        start_seconds: where the first window begins, at least 0 and before the end.

    Returns:
        (num_windows,) float64 seconds in [start_seconds, duration_seconds), rising.

    Raises:
        ValueError: an argument is out of its range.
    """
    hop_seconds = window_seconds if hop_seconds is None else hop_seconds
    _check_positive("duration_seconds", duration_seconds)
    _check_positive("window_seconds", window_seconds)
    _check_positive("hop_seconds", hop_seconds)
    _check_start("start_seconds", start_seconds, "duration_seconds", duration_seconds)
    if hop_seconds > window_seconds:
        raise ValueError(
            f"hop_seconds: expected at most window_seconds, {window_seconds}, got {hop_seconds}; "
            "windows further apart leave out what is between them"
        )
    latest = max(start_seconds, duration_seconds - window_seconds)
    # A remainder of rounding, or of a container's clock, is no window.
    num_hops = math.ceil((latest - start_seconds) / hop_seconds - 1e-3)
    if num_hops >= MAX_WINDOWS:
        raise ValueError(
            f"hop_seconds: expected at most {MAX_WINDOWS:,} windows in the {duration_seconds:g} seconds the video "
            f"promises, got {num_hops + 1:,}; take longer hops"
        )
    return np.append(start_seconds + hop_seconds * np.arange(num_hops), latest)


def uniform_indices(total_frames: int, num_frames: int, *, num_clips: int = 1, start: int = 0) -> np.ndarray:
    """Frame numbers on display at the `uniform_instants` of a video whose frames last equally long.

    Args:
        total_frames: frames of the video, at least 1.
        num_frames: frames per clip, at least 1.
        num_clips: number of clips, at least 1; they interleave.
        start: frames before this number are left out; in [0, total_frames).

    Returns:
        (num_clips, num_frames) int64 in [start, total_frames), not falling within a clip. With fewer frames than a
        clip has, every clip is all of them in order, then the last one again.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_count("total_frames", total_frames)
    _check_start("start", start, "total_frames", total_frames, kind=Integral)
    midpoints = _midpoints(num_frames, num_clips)
    available = total_frames - start
    if available < num_frames:
        return strided_indices(total_frames, num_frames, stride=1, num_clips=num_clips, start=start)
    # floor(available * (i + 1/2) / parts) in whole numbers: rounding must not move a frame.
    return start + available * midpoints // (2 * midpoints.size)


def strided_indices(
    total_frames: int, num_frames: int, *, stride: float, num_clips: int = 1, start: int = 0
) -> np.ndarray:
    """Frame numbers at a fixed distance; those behind the end become the last frame's.

    Args:
        total_frames: frames of the video, at least 1.
        num_frames: frames per clip, at least 1.
        stride: distance of two frames in frames, positive; need not be whole, positions are rounded down.
        num_clips: number of clips, at least 1; they begin at evenly spread frames.
        start: number of the first frame, in [0, total_frames).

    Returns:
        (num_clips, num_frames) int64 in [start, total_frames), not falling within a clip.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check_count("total_frames", total_frames)
    _check_count("num_frames", num_frames)
    _check_count("num_clips", num_clips)
    _check_positive("stride", stride)
    _check_start("start", start, "total_frames", total_frames, kind=Integral)
    latest = max(start, total_frames - 1 - math.floor((num_frames - 1) * stride))
    starts = np.linspace(start, latest, num_clips).astype(np.int64)
    # 3 * 0.1 * 10 is a little under 3: the excess keeps whole positions whole.
    offsets = np.floor(stride * np.arange(num_frames) + 1e-6).astype(np.int64)
    return np.minimum(starts[:, None] + offsets, total_frames - 1)


def _midpoints(num_frames: int, num_clips: int) -> np.ndarray:
    """(num_clips, num_frames) odd numbers 1, 3, 5, ...: twice the midpoints of equal parts, dealt out to the clips."""
    _check_count("num_frames", num_frames)
    _check_count("num_clips", num_clips)
    odd = 2 * np.arange(num_clips * num_frames, dtype=np.int64) + 1
    return np.ascontiguousarray(odd.reshape(num_frames, num_clips).T)


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}; give a larger or whole one")


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a positive, finite number, got {value!r}; measure or choose it anew")


def _check_start(name: str, value: float, end_name: str, end: float, *, kind: type = Real) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value < end:
        what = "whole number" if kind is Integral else "number"
        raise ValueError(f"{name}: expected a {what} in [0, {end}), got {value!r}; choose one before {end_name}")
