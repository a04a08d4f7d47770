"""From a plan to the frames of its clips, in one pass over the video, whatever the number of clips."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .clip_plan import ClipPlan
from .video_file import VideoFile, VideoFrame, VideoFrames, check_output_size
from .video_source import reported


def read_clips(
    video: VideoFile,
    plan: ClipPlan,
    *,
    process: Callable[[Iterator[VideoFrame]], Iterator[Any]] = iter,
) -> Iterator[list[Any]]:
    """The clips of a plan, one after the other: memory does not grow with their number.

    Args:
        video: where the frames are.
        plan: which frames.
        process: makes of frames, in their order, as many things that have `seconds`: what clips are to hold.

    Yields:
        The things of each clip, in its order.

    Raises:
        VideoError: a frame cannot be read, or a clip is too short and must not be.
    """
    positions, rows = _distinct(plan)
    frames = video.frames_numbered(positions) if plan.counts_frames else video.frames_at(positions)
    for clip in gather_clips(process(frames), rows):
        with reported(video.name):
            plan.check_repeats(np.array([[frame.seconds for frame in clip]]))
        yield clip


def read_all_clips(video: VideoFile, plan: ClipPlan) -> tuple[VideoFrames, np.ndarray]:
    """The clips of a plan, all at once.

    Returns:
        Their frames, each once, by rising time; and (num_clips, num_frames) which of them makes each clip.

    Raises:
        VideoError: a frame cannot be read, there are too many, or a clip is too short and must not be.
    """
    positions, rows = _distinct(plan)
    frames = video.read(indices=positions) if plan.counts_frames else video.read(seconds=positions)
    with reported(video.name):
        plan.check_repeats(frames.seconds[rows])
    check_output_size(video.name, rows.size, frames.frames.shape[1:])
    return frames, rows


def _distinct(plan: ClipPlan) -> tuple[np.ndarray, np.ndarray]:
    """The positions of a plan, each once, rising; and which of them stand where in its clips."""
    positions, rows = np.unique(plan.positions, return_inverse=True)
    return positions, rows.reshape(plan.positions.shape)


def gather_clips(frames: Iterator[Any], rows: np.ndarray) -> Iterator[list[Any]]:
    """Deals frames out to clips, keeping no frame for longer than a clip needs it.

    Args:
        frames: Frame 0, 1, 2, ...
        rows: (num_clips, num_frames) numbers of frames; the clips come in this order.

    Yields:
        The frames of each clip, in its order.
    """
    last_row = np.zeros(rows.max() + 1, dtype=np.int64)
    np.maximum.at(last_row, rows, np.arange(len(rows))[:, None])
    held: dict[int, Any] = {}
    count = 0
    for number, row in enumerate(rows.tolist()):
        while count <= max(row):
            held[count] = next(frames)
            count += 1
        yield [held[index] for index in row]
        for index in set(row):
            if last_row[index] == number:
                del held[index]


__all__ = ["gather_clips", "read_all_clips", "read_clips"]
