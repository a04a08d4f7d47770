"""The views of a video that a model scores: clips x crops x scales, of the whole video or of each of its windows.

What is unusual: a video is decoded once, front to back, whatever the number of views. Each frame is brought to the
model's sizes as it comes, and forgotten after the last clip that needs it, so memory does not grow with the video.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..model.clip_sampling import window_starts
from ..model.video_io import Video, VideoError, VideoInfo, probe, read_frames, stream_frames
from ..model.video_processing_fal import FALVideoProcessor
from .options import PAPER_SCALES, Views

# Length of a window where the checkpoint names no distance of frames: the length of a Kinetics clip.
DEFAULT_WINDOW_SECONDS = 10.0
# Frames that are brought to the model's sizes at once.
CHUNK_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class VideoClips:
    """
    The clips of one video, as they come.

    Args:
        duration_seconds: Length of the video.
        frame_rate: Mean frames a second; None where the container does not say.
        num_clips: Clips of the video, or of each window.
        window_starts: Seconds where the windows begin, (num_windows,) float64; None without windows.
        window_seconds: Length of a window; None without windows.
        batches: Yields, for at most `batch_size` clips at a time, one float32 array a scale,
            (clips, crops, T, C, H, W); windows come one after the other with all their clips. To be gone through once.
    """

    duration_seconds: float
    frame_rate: float | None
    num_clips: int
    window_starts: np.ndarray | None = None
    window_seconds: float | None = None
    batches: Iterator[list[np.ndarray]] = field(compare=False, repr=False)


class ViewReader:
    """
    Reads the views of videos. It can be pickled: a process that decodes needs nothing else.

    Args:
        processor: The video processor of the checkpoint; its sampling settings say which frames make a clip.
        views: Which views.
        patch_size: Edge of the model's patches in pixels, of which a crop's edges are multiples at other scales.
        batch_size: Clips that are handed over at a time.
        num_threads: Decoder threads; None: as many as this process may use, 4 at most.

    Raises:
        ValueError: the processor cannot give these views.
    """

    def __init__(
        self,
        processor: FALVideoProcessor,
        views: Views,
        *,
        patch_size: int,
        batch_size: int = 8,
        num_threads: int | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if views.num_crops > 1 and not processor.do_center_crop:
            raise ValueError("num_crops: expected 1 with do_center_crop=False: this checkpoint takes whole frames")
        self.processor = processor
        self.views = views
        self.batch_size = batch_size
        self.num_threads = num_threads
        self.settings = [scaled_settings(processor, scale, patch_size) for scale in views.scales]

    def __call__(self, video: Video) -> VideoClips:
        """
        Opens a video; its frames are decoded as the batches are taken.

        Raises:
            VideoError: (a `ValueError`) if the video cannot be read; taking a batch may raise it as well.
        """
        info = probe(video, num_threads=self.num_threads)
        try:
            return self._plan_windows(video, info) if self.views.windows else self._plan_video(video, info)
        except VideoError:
            raise
        except ValueError as error:
            raise VideoError(name_of(video), str(error)) from error

    def process_frame(self, image: np.ndarray) -> torch.Tensor:
        """One frame, (H, W, 3) uint8, as (crops, C, H, W) float32 at the first scale."""
        return self._make_views(image[None], self.settings[0])[0]

    def _plan_video(self, video: Video, info: VideoInfo) -> VideoClips:
        unit, plan = self.processor.plan_clips(info, num_clips=self.views.num_clips, do_sample_frames=True)
        return self._clips(video, info, unit, plan, num_clips=len(plan))

    def _plan_windows(self, video: Video, info: VideoInfo) -> VideoClips:
        """Each window is sampled as if it were a video of its own."""
        window_seconds = self.views.window_seconds or self.processor.clip_seconds(info) or DEFAULT_WINDOW_SECONDS
        starts = window_starts(
            info.duration_seconds,
            window_seconds,
            hop_seconds=self.views.hop_seconds,
            start_seconds=self.processor.start_seconds or 0.0,
        )
        window_seconds = min(window_seconds, info.duration_seconds - float(starts[0]))
        window = replace(info, duration_seconds=window_seconds, num_frames=None)
        _, plan = self.processor.plan_clips(
            window, num_clips=self.views.num_clips or 1, do_sample_frames=True, start_seconds=0.0
        )
        plan_of_all = (starts[:, None, None] + plan).reshape(-1, plan.shape[1])
        return self._clips(
            video,
            info,
            "seconds",
            plan_of_all,
            num_clips=len(plan),
            window_starts=starts,
            window_seconds=window_seconds,
        )

    def _clips(self, video: Video, info: VideoInfo, unit: str, plan: np.ndarray, **about) -> VideoClips:
        return VideoClips(
            duration_seconds=info.duration_seconds,
            frame_rate=info.frame_rate,
            batches=self._read_batches(video, unit, plan),
            **about,
        )

    def _read_batches(self, video: Video, unit: str, plan: np.ndarray) -> Iterator[list[np.ndarray]]:
        positions, rows = np.unique(plan, return_inverse=True)
        frames = self._process(self._decode(video, unit, positions))
        clips = gather_clips(frames, rows.reshape(plan.shape))
        while clip_batch := list(islice(clips, self.batch_size)):
            self._check_repeats(video, clip_batch)
            views = [[frame.views for frame in clip] for clip in clip_batch]
            yield [
                torch.stack([torch.stack([frame[scale] for frame in clip], dim=1) for clip in views]).numpy()
                for scale in range(len(self.settings))
            ]

    def _decode(self, video: Video, unit: str, positions: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        if unit == "seconds":
            return stream_frames(video, seconds=positions, num_threads=self.num_threads)
        # Only videos of few frames, and clips of a distance in frames, are read by number.
        decoded = read_frames(video, indices=positions, num_threads=self.num_threads)
        return zip(decoded.frames, decoded.seconds.tolist(), strict=True)

    def _process(self, frames: Iterator[tuple[np.ndarray, float]]) -> Iterator["ProcessedFrame"]:
        while chunk := list(islice(frames, CHUNK_FRAMES)):
            images = np.stack([image for image, _ in chunk])
            by_scale = [self._make_views(images, settings) for settings in self.settings]
            for (_, seconds), *views in zip(chunk, *by_scale, strict=True):
                yield ProcessedFrame(seconds, views)

    def _make_views(self, images: np.ndarray, settings: dict[str, Any]) -> torch.Tensor:
        """(T, H, W, 3) uint8 to (T, crops, C, h, w) float32 at one scale."""
        options = {**settings, "do_sample_frames": False, "return_tensors": "pt"}
        if self.views.num_crops == 1:
            return self.processor(images, **options)["pixel_values"][0].unsqueeze(1)
        frames = self.processor(images, do_center_crop=False, **options)["pixel_values"][0]
        crop_size = settings.get("crop_size") or size_as_dict(self.processor.crop_size)
        return three_crops(frames, height=crop_size["height"], width=crop_size["width"])

    def _check_repeats(self, video: Video, clips: list[list["ProcessedFrame"]]) -> None:
        if self.processor.short_clip != "error":
            return
        for clip in clips:
            seconds = [frame.seconds for frame in clip]
            if len(set(seconds)) < len(seconds):
                reason = f'too short for {len(seconds)} different frames as asked for, and `short_clip` is "error"'
                raise VideoError(name_of(video), reason)


@dataclass(frozen=True)
class ProcessedFrame:
    """A frame's instant and its pixel values, one tensor (crops, C, H, W) a scale."""

    seconds: float
    views: Sequence[torch.Tensor]


def gather_clips(frames: Iterator[Any], rows: np.ndarray) -> Iterator[list[Any]]:
    """
    Deals frames out to clips, keeping no frame for longer than a clip needs it.

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


def three_crops(frames: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
    """
    Three crops along the longer side, from its beginning, its middle and its end; the middle of the other side.

    Args:
        frames: `(T, C, H, W)`.
        height, width: Of a crop, in pixels.

    Returns:
        `(T, 3, C, height, width)`; the second crop is the one that a processor cuts out.

    Raises:
        ValueError: the frames are smaller than a crop.
    """
    extra = frames.shape[-2] - height, frames.shape[-1] - width
    if min(extra) < 0:
        raise ValueError(
            f"expected frames of at least {width} x {height} pixels after resizing for three crops, "
            f"got {frames.shape[-1]} x {frames.shape[-2]}; take num_crops=1"
        )
    middle = [pixels // 2 for pixels in extra]
    if frames.shape[-2] > frames.shape[-1]:
        tops, lefts = (0, middle[0], extra[0]), (middle[1],) * 3
    else:
        tops, lefts = (middle[0],) * 3, (0, middle[1], extra[1])
    crops = [frames[..., top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)]
    return torch.stack(crops, dim=1)


def scaled_settings(processor: FALVideoProcessor, scale: float, patch_size: int) -> dict[str, Any]:
    """The processor's `size` and `crop_size` at another scale; crops, or frames where nothing is cropped, are whole
    patches, and the frame before cropping keeps its proportion to the crop."""
    if scale == 1:
        return {}
    size = size_as_dict(processor.size)
    reference = size_as_dict(processor.crop_size) if processor.do_center_crop else size
    scaled = {name: max(1, round(edge * scale / patch_size)) * patch_size for name, edge in reference.items()}
    if not processor.do_center_crop:
        return {"size": scaled}
    factor = max(scaled[name] / reference[name] for name in reference)
    return {"crop_size": scaled, "size": {name: round(edge * factor) for name, edge in size.items()}}


def size_as_dict(size: Any) -> dict[str, int]:
    """The edges that a processor's `size` names."""
    names = ("height", "width", "shortest_edge", "longest_edge")
    return {name: getattr(size, name) for name in names if getattr(size, name) is not None}


def name_of(video: Video) -> str:
    """What to call a video in a result or a message: its path or URL, else its type."""
    return str(video) if isinstance(video, str) or hasattr(video, "__fspath__") else f"<{type(video).__name__}>"


__all__ = ["PAPER_SCALES", "VideoClips", "ViewReader", "Views"]
