"""The views of a video that a model scores: clips x crops x scales, of the whole video or of each of its windows.

What is unusual: a video is decoded once, front to back, whatever the number of views. Each frame is brought to the
model's sizes as it comes, and forgotten after the last clip that needs it, so memory does not grow with the video.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..model.clip_plan import ClipPlan
from ..model.clip_reading import read_clips
from ..model.clip_sampling import window_starts
from ..model.video_file import Video, VideoFile, VideoFrame
from ..model.video_info import WHOLE, Stretch, VideoInfo
from ..model.video_processing_fal import FALVideoProcessor
from ..model.video_source import reported
from .options import PAPER_SCALES, Views
from .static_windows import ReusedWindow, StaticWindows

# Length of a window where the checkpoint names no distance of frames: the length of a Kinetics clip.
DEFAULT_WINDOW_SECONDS = 10.0
# Frames that are brought to the model's sizes at once.
CHUNK_FRAMES = 8
# Of a frame that people look at.
PICTURE_PIXELS = 480 * 480


@dataclass(frozen=True, kw_only=True)
class Windows:
    """
    Windows of one length.

    Args:
        starts: Where they begin, (num_windows,) float64 seconds after the video's first frame.
        seconds: Length of a window.
    """

    starts: np.ndarray
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ViewLayout:
    """
    What the clips of one video stand for.

    Args:
        stretch: What of the video is scored.
        duration_seconds: Length of that.
        frame_rate: Mean frames a second; None where the container does not say.
        num_clips: Clips of the video, or of each window.
        windows: The windows that tile it, if any.
    """

    stretch: Stretch
    duration_seconds: float
    frame_rate: float | None
    num_clips: int
    windows: Windows | None = None


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """
    Which clips of one video are scored.

    Args:
        clips: The clips; windows come one after the other with all their clips.
        layout: What they stand for.
    """

    clips: ClipPlan
    layout: ViewLayout


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
        self.patch_size = patch_size
        self.batch_size = batch_size
        self.num_threads = num_threads
        self._refuse_gaps()
        self.settings = [scaled_settings(processor, scale, patch_size) for scale in views.scales]

    def _refuse_gaps(self) -> None:
        """Windows further apart than they are long; how long a number of frames lasts, only the video says."""
        seconds, hop_seconds = self.views.window_seconds, self.views.hop_seconds
        if seconds is None and hop_seconds is not None and getattr(self.processor, "frame_stride", None) is None:
            seconds = default_window_seconds(self.processor)
            if hop_seconds > seconds:
                raise ValueError(
                    f"hop_seconds: expected at most the length of a window, {seconds:g} here, got {hop_seconds}; "
                    "give window_seconds"
                )

    def open(self, video: Video, *, info: VideoInfo | None = None) -> VideoFile:
        """Opens a video, of which `info` may be known already; a VideoError names it and the reason where it fails."""
        return VideoFile(video, num_threads=self.num_threads, info=info)

    def plan(self, video: VideoFile, stretch: Stretch = WHOLE) -> ViewPlan:
        """
        The clips of a video, or of a stretch of it as if that were a video by itself.

        Raises:
            VideoError: (a `ValueError`) if the video cannot be measured, or is over before the stretch begins.
        """
        with reported(video.name):
            info = stretch.within(video.info)
            about = {"stretch": stretch, "duration_seconds": info.duration_seconds, "frame_rate": info.frame_rate}
            if self.views.windows:
                clips, windows = self._plan_windows(info, stretch)
                num_clips = len(clips.positions) // len(windows.starts)
                return ViewPlan(clips=clips, layout=ViewLayout(**about, num_clips=num_clips, windows=windows))
            clips = self.processor.plan_clips(
                video.info,
                stretch=stretch,
                num_clips=self.views.num_clips,
                frame_seconds=video.frame_seconds,
                do_sample_frames=True,
            )
            return ViewPlan(clips=clips, layout=ViewLayout(**about, num_clips=len(clips.positions)))

    def read(self, video: VideoFile, plan: ViewPlan) -> Iterator[list[np.ndarray] | ReusedWindow]:
        """
        The views of a plan, as their frames are decoded.

        Yields:
            For at most `batch_size` clips at a time one float32 array a scale, (clips, crops, T, C, H, W); with
            `reuse_static` also the windows whose clips are in no batch.

        Raises:
            VideoError: (a `ValueError`) a frame cannot be read, or a clip is too short and must not be.
        """
        clips = read_clips(video, plan.clips, process=self._process)
        if self.views.reuse_static is not None:
            clips = self._without_static(clips, plan.layout.num_clips, self.make_static(self.views.reuse_static))
        batch: list[list[ProcessedFrame]] = []
        for clip in clips:
            if isinstance(clip, ReusedWindow):
                yield clip
                continue
            batch.append(clip)
            if len(batch) == self.batch_size:
                yield self.stack(batch)
                batch = []
        if batch:
            yield self.stack(batch)

    def read_pictured(self, video: VideoFile, plan: ViewPlan) -> Iterator[list["PicturedFrame"]]:
        """
        The clips of a plan with pictures of their frames, in the order of the plan.

        Raises:
            VideoError: as for [`read`].
        """

        def process(frames: Iterator[VideoFrame]) -> Iterator[PicturedFrame]:
            for frame in frames:
                views = [self._make_views(frame.image[None], settings)[0] for settings in self.settings]
                yield PicturedFrame(frame.seconds, views, self.make_picture(frame.image))

        return read_clips(video, plan.clips, process=process)

    def make_picture(self, image: np.ndarray) -> np.ndarray:
        """
        What the first scale shows of a frame, `(H, W, 3)` uint8, for people: `(height, width, 3)` uint8 of as many
        pixels as the frame has there, but no more than PICTURE_PIXELS nor fewer than the model sees.
        """
        raw = {"do_sample_frames": False, "return_tensors": "np", "do_rescale": False, "do_normalize": False}
        raw |= {"do_flip_channel_order": False}
        whole = self.processor(image[None], do_center_crop=False, **self.settings[0], **raw)["pixel_values"]
        height, width = self.process_frame(image).shape[-2:]
        own = min(side / shown for side, shown in zip(image.shape, whole.shape[-2:], strict=False))
        scale = self.views.scales[0] * max(1.0, min(own, (PICTURE_PIXELS / (height * width)) ** 0.5))
        settings = scaled_settings(self.processor, scale, self.patch_size)
        pixels = self.processor(image[None], **settings, **raw)["pixel_values"][0, 0]
        return pixels.transpose(1, 2, 0).round().clip(0, 255).astype(np.uint8)

    def make_static(self, levels: float) -> StaticWindows:
        """Tells the static windows of one video or stream; see [`Views`] for `levels`."""
        return StaticWindows(self.processor, levels=levels, patch_size=self.patch_size)

    @staticmethod
    def _without_static(
        clips: Iterator[list["ProcessedFrame"]], num_clips: int, static: StaticWindows
    ) -> Iterator["list[ProcessedFrame] | ReusedWindow"]:
        """The clips of the windows that are to be scored, and in the places of the others what those reuse."""
        number = -1
        while window := list(islice(clips, num_clips)):
            if static.is_static([view for clip in window for frame in clip for view in frame.views]):
                yield ReusedWindow(number)
            else:
                number += 1
                yield from window

    def stack(self, clips: Sequence[Sequence["ProcessedFrame"]]) -> list[np.ndarray]:
        """The views of some clips, one array a scale, (clips, crops, T, C, H, W)."""
        views = [[frame.views for frame in clip] for clip in clips]
        return [
            torch.stack([torch.stack([frame[scale] for frame in clip], dim=1) for clip in views]).numpy()
            for scale in range(len(self.settings))
        ]

    def process_frame(self, image: np.ndarray) -> torch.Tensor:
        """One frame, (H, W, 3) uint8, as (crops, C, H, W) float32 at the first scale."""
        return self._make_views(image[None], self.settings[0])[0]

    def _plan_windows(self, info: VideoInfo, stretch: Stretch) -> tuple[ClipPlan, Windows]:
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
        options = {"do_sample_frames": True, "start_seconds": 0.0, "end_seconds": None}
        clips = self.processor.plan_clips(window, num_clips=self.views.num_clips or 1, **options)
        starts = stretch.start_seconds + starts
        positions = (starts[:, None, None] + clips.positions).reshape(-1, clips.positions.shape[1])
        return replace(clips, positions=positions), Windows(starts=starts, seconds=window_seconds)

    def _process(self, frames: Iterator[VideoFrame]) -> Iterator["ProcessedFrame"]:
        while chunk := list(islice(frames, CHUNK_FRAMES)):
            images = np.stack([frame.image for frame in chunk])
            by_scale = [self._make_views(images, settings) for settings in self.settings]
            for frame, *views in zip(chunk, *by_scale, strict=True):
                yield ProcessedFrame(frame.seconds, views)

    def _make_views(self, images: np.ndarray, settings: dict[str, Any]) -> torch.Tensor:
        """(T, H, W, 3) uint8 to (T, crops, C, h, w) float32 at one scale."""
        options = {**settings, "do_sample_frames": False, "return_tensors": "pt"}
        if self.views.num_crops == 1:
            return self.processor(images, **options)["pixel_values"][0].unsqueeze(1)
        frames = self.processor(images, do_center_crop=False, **options)["pixel_values"][0]
        crop_size = settings.get("crop_size") or size_as_dict(self.processor.crop_size)
        return three_crops(frames, height=crop_size["height"], width=crop_size["width"])


def default_window_seconds(processor: FALVideoProcessor) -> float:
    """A clip's length where the checkpoint names a time between its frames, else that of a clip of Kinetics."""
    interval_seconds = processor.frame_interval_seconds
    return interval_seconds * processor.num_frames if interval_seconds else DEFAULT_WINDOW_SECONDS


@dataclass(frozen=True)
class ProcessedFrame:
    """A frame's instant and its pixel values, one tensor (crops, C, H, W) a scale."""

    seconds: float
    views: Sequence[torch.Tensor]


@dataclass(frozen=True)
class PicturedFrame(ProcessedFrame):
    """A processed frame and what people see of it, (height, width, 3) uint8."""

    picture: np.ndarray


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


__all__ = ["PAPER_SCALES", "ViewLayout", "ViewPlan", "ViewReader", "Views", "Windows"]
