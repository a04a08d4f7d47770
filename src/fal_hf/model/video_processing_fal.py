"""Videos to `pixel_values`: decoding with PyAV, the sampling of clips, and the pixel path of the image processor.

What is unusual: files are decoded here, by `video_file`, and nothing but the frames of the clip is decoded to pixels;
a clip that is too short holds its last frame; frames come in any layout, size and range, decided for each clip.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import (
    Unpack,  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]  # as the library's models do
    VideosKwargs,
)
from transformers.utils import IMAGE_PROCESSOR_NAME
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoInput, VideoMetadata

from .clip_plan import SPACINGS, ClipPlan, Sampling
from .clip_reading import read_all_clips
from .frames import CHANNEL_COUNTS, FALImageProcessorKwargs, read_clip, split_into_clips
from .image_processing_fal import FALImageProcessor
from .torchvision_frames import TorchvisionPreprocessing
from .video_file import VideoFile, VideoFrames
from .video_info import WHOLE, Stretch, VideoInfo
from .video_source import reported


class FALVideoProcessorKwargs(VideosKwargs, total=False):
    """
    frame_stride (`int`, *optional*):
        Distance of the sampled frames, in frames. Unset: frames are spread evenly over the video.
    frame_interval_seconds (`float`, *optional*):
        Distance of the sampled frames, in seconds.
    start_seconds (`float`, *optional*):
        Where sampling begins, in seconds after the first frame.
    end_seconds (`float`, *optional*):
        Where it ends. Unset: with the video.
    num_clips (`int`, *optional*, defaults to 1):
        How many clips [`FALVideoProcessor.sample_clips`] takes from a video.
    short_clip (`str`, *optional*, defaults to `"hold"`):
        What happens where a video is too short for `num_frames` different frames: `"hold"` repeats the last
        one, `"error"` raises.
    do_flip_channel_order (`bool`, *optional*, defaults to `False`):
        Whether to hand out BGR instead of RGB.
    """

    frame_stride: int | None
    frame_interval_seconds: float | int | None
    start_seconds: float | int | None
    end_seconds: float | int | None
    num_clips: int | None
    short_clip: str | None
    do_flip_channel_order: bool | None


@dataclass
class FALVideoMetadata(VideoMetadata):
    """Where the frames of a clip are from: transformers' metadata and the exact instant of each frame.

    `frames_indices` are numbers of frames from 0, where they are known; `frames_seconds` are seconds after the first
    frame, where they are known.
    """

    total_num_frames: int | None  # not known of every file
    frames_seconds: list[float] | None = None

    @property
    def timestamps(self) -> list[float]:
        """Seconds of the sampled frames after the first frame of the video."""
        return super().timestamps if self.frames_seconds is None else self.frames_seconds


@dataclass(frozen=True)
class SampledClip:
    """The frames of one clip as they are in the video, not yet preprocessed, and where they are from.

    `frames`: (T, H, W, 3) uint8 for a decoded video; a selection of what was given, in its own form, for frames.
    """

    frames: np.ndarray | torch.Tensor | list
    metadata: FALVideoMetadata


def is_encoded_video(value: Any) -> bool:
    """Whether `value` is to be decoded: a path or URL, the bytes of a file, or a binary file object."""
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(value, "read")


class FALVideoProcessor(TorchvisionPreprocessing, BaseVideoProcessor):
    """Turns videos into `pixel_values` of shape (B, T, C, H, W) in float32.

    Videos are files (path, URL, bytes, binary file object), which are decoded with PyAV, or frames in any form that
    [`FALImageProcessor`] takes; one or many of them, in any nesting. Pixels come out as from [`FALImageProcessor`].

    **Which frames.** With `do_sample_frames` (the default) every video gives one clip of `num_frames` frames:

    - spread evenly over the video, each from the middle of its share (the default);
    - or every `frame_stride`-th frame, or one every `frame_interval_seconds`, from `start_seconds` to `end_seconds`;
    - or, with `fps`, evenly over the video, as many as `fps` a second make.

    One of `fps`, `frame_stride` and `frame_interval_seconds` given in a call replaces a configured one, and so does
    `num_frames` a configured `fps`. Without `do_sample_frames` all frames are taken.

    **Frames that are given** are sampled alike. A clip that has exactly `num_frames` frames is taken as it is, unless
    the call itself asks for a spacing. Seconds need a frame rate: pass it in `video_metadata`.

    **Short clips.** What would lie behind the end is the last frame again: a video of fewer frames than a clip gives
    all of them in order and holds the last one, and so does a clip of a fixed spacing that outlasts the video
    (`short_clip="hold"`, the default). With `short_clip="error"` a clip that repeats frames raises a ValueError.
    """

    valid_kwargs = FALVideoProcessorKwargs

    do_sample_frames = True
    num_frames = 8
    start_seconds = 0.0
    num_clips = 1
    short_clip = "hold"
    frame_interval_seconds: float | None

    def __init__(self, **kwargs: Unpack[FALVideoProcessorKwargs]):
        # Bad settings are refused here and not at the first video.
        validate_typed_dict(self.valid_kwargs, _typed_settings(kwargs))  # pyright: ignore[reportArgumentType]  # a TypedDict is no dict to it
        super().__init__(**kwargs)
        self._choose_sampling({})
        self._check_pixel_settings()

    def _check_pixel_settings(self) -> None:
        sizes: dict[str, Any] = {name: getattr(self, name) or SizeDict() for name in ("size", "crop_size")}
        for name, size in sizes.items():
            if any(side is not None and side < 1 for side in vars(size).values()):
                raise ValueError(f"`{name}` must be at least one pixel, got {size}.")
        crop = sizes["crop_size"]
        if self.do_center_crop and self.crop_size and None in (crop.height, crop.width):
            raise ValueError(f"`crop_size` must have a height and a width, got {crop}.")
        if isinstance(self.resample, int | str) and self.resample not in set(PILImageResampling):
            raise ValueError(f"`resample` must be one of PIL's numbers, got {self.resample}.")
        lengths = {np.size(value) for value in (self.image_mean, self.image_std) if value is not None} - {1}
        if len(lengths) > 1 or not lengths <= set(CHANNEL_COUNTS):
            raise ValueError(
                "`image_mean` and `image_std` must be numbers or have one for each channel, "
                f"got {self.image_mean} and {self.image_std}."
            )

    @classmethod
    def get_video_processor_dict(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> tuple[dict, dict]:
        """Settings of a saved processor; those of an image processor are completed by the model's `num_frames`."""
        settings, unused = super().get_video_processor_dict(pretrained_model_name_or_path, **kwargs)
        if not isinstance(settings, dict):
            raise ValueError(
                f"{pretrained_model_name_or_path}: expected an object of a video processor's settings, "
                f"got a {type(settings).__name__}"
            )
        if "num_frames" not in settings:
            with suppress(OSError):  # a file by itself, or a repository without a model
                config, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
                settings = {**settings, "num_frames": config.get("num_frames") or cls.num_frames}
        return settings, unused

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Saves `video_preprocessor_config.json` and, where there is none yet, `preprocessor_config.json`.

        Pipelines need the second one, of a [`FALImageProcessor`] that gives the same pixels, to form batches.
        """
        files = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        if not os.path.exists(os.path.join(save_directory, IMAGE_PROCESSOR_NAME)):
            beside = self._make_image_processor()
            files += beside.save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        return files

    def _make_image_processor(self) -> FALImageProcessor:
        names = FALImageProcessorKwargs.__annotations__.keys() - {"default_to_square"}
        shared = {name: getattr(self, name) for name in names if hasattr(self, name)}
        if self._auto_class is not None:  # the code, this module's imports included, has been saved with the processor
            shared["auto_map"] = {"AutoImageProcessor": "image_processing_fal.FALImageProcessor"}
        return FALImageProcessor(**shared)

    def preprocess(self, videos: VideoInput, **kwargs: Unpack[FALVideoProcessorKwargs]) -> BatchFeature:
        """Prepares one clip of each video.

        Args:
            videos: A path, URL, bytes or binary file object; or one frame, a list of frames (**one** video), a 4-D
                array or tensor (one video), a 5-D one (many); or lists of any of these. Sizes, layouts and value
                ranges may differ from video to video.
            **kwargs: Any attribute of the processor, for this call alone. `video_metadata` (one entry a video) tells
                the frame rate of given frames, `return_metadata` asks for metadata in the result.

        Returns:
            `pixel_values` (B, T, C, H, W) in float32, or a list of B clips where `return_tensors` is not given; with
            `return_metadata` also `video_metadata`, a list of B [`FALVideoMetadata`].

        Raises:
            VideoError: (a ValueError) for a file that cannot be read.
            ValueError: for input that is no video, frames as [`FALImageProcessor`] refuses them, and options that
                contradict one another.
            TypeError: for frames of what are no numbers.
        """
        validate_typed_dict(self.valid_kwargs, kwargs)  # pyright: ignore[reportArgumentType]  # a TypedDict is no dict to it
        sampling = self._choose_sampling({**kwargs, "num_clips": 1})
        sources = split_into_clips(videos, is_clip=is_encoded_video)
        metadata = _spread_metadata(kwargs.get("video_metadata"), count=len(sources))
        clips = [_sample(source, known, sampling)[0] for source, known in zip(sources, metadata, strict=True)]
        options = self._complete_options(kwargs)
        reading = {name: options.pop(name) for name in ("do_convert_rgb", "input_data_format", "device")}
        batch = self._preprocess([read_clip(clip.frames, **reading) for clip in clips], **options)
        if options["return_metadata"]:
            batch["video_metadata"] = [clip.metadata for clip in clips]
        return batch

    def sample_clips(self, video: Any, *, num_clips: int | None = None, **kwargs) -> list[SampledClip]:
        """Takes `num_clips` clips from one video, decoding it once for all of them.

        Clips of evenly spread frames span the whole video and interleave; clips of a fixed spacing begin at evenly
        spread instants, the first one at `start_seconds`, and the last one ends with the video.

        Args:
            video: One video, as for a call; a list is a list of frames.
            num_clips: Unset: the processor's own.
            **kwargs: Sampling options and `video_metadata`, as for a call.

        Returns:
            `num_clips` clips. A call with `[clip.frames for clip in clips]` and `do_sample_frames=False` turns them
            into `pixel_values`.

        Raises:
            VideoError: (a ValueError) for a file that cannot be read.
            ValueError: for several videos, and for options that contradict one another.
        """
        sampling = self._choose_sampling({**kwargs, "num_clips": self.num_clips if num_clips is None else num_clips})
        sources = split_into_clips(video, is_clip=is_encoded_video)
        if len(sources) != 1:
            raise ValueError(f"Expected one video, got {len(sources)}.")
        (metadata,) = _spread_metadata(kwargs.get("video_metadata"), count=1)
        return _sample(sources[0], metadata, sampling)

    def plan_clips(
        self,
        info: VideoInfo,
        *,
        stretch: Stretch = WHOLE,
        num_clips: int | None = None,
        frame_seconds: Callable[[], np.ndarray] | None = None,
        **kwargs,
    ) -> ClipPlan:
        """Which frames of a file make its clips, as `sample_clips` takes them.

        Args:
            info: What [`probe`] says of the file.
            stretch: What of the file is taken, as if that were a video by itself.
            num_clips: Unset: the processor's own.
            frame_seconds: The [`VideoFile`]'s method, asked where frames are counted; unset: `frame_stride` is taken
                times their mean distance.
            **kwargs: Sampling options, as for a call.

        Raises:
            ValueError: for options that contradict one another or do not fit the file.
        """
        num_clips = self.num_clips if num_clips is None else num_clips
        sampling = self._choose_sampling({**kwargs, "num_clips": num_clips})
        return sampling.plan(info, stretch, frame_seconds=frame_seconds)

    def clip_seconds(self, info: VideoInfo) -> float | None:
        """How long a clip of this file is, from its first frame to the end of its last one.

        None where a clip spans the whole file, that is, where no distance of the frames is set.
        """
        return self._choose_sampling({}).clip_seconds(info)

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: int | float | None = None, **kwargs
    ) -> np.ndarray:
        """Numbers of the frames of one clip, (T,) int64, in a video of `metadata.total_num_frames` frames."""
        given = {**kwargs, "num_frames": num_frames, "fps": fps, "num_clips": 1}
        sampling = self._choose_sampling({name: value for name, value in given.items() if value is not None})
        return sampling.plan_given(metadata.total_num_frames, rate=metadata.fps).positions[0]

    def _choose_sampling(self, given: Mapping[str, Any]) -> Sampling:
        """The sampling options of a call, completed by the processor's own where they do not contradict it."""
        spacings = [name for name in SPACINGS if given.get(name) is not None]
        if len(spacings) > 1:
            raise ValueError(f"Expected one of {', '.join(SPACINGS)}; got {' and '.join(spacings)}.")
        if given.get("fps") is not None and given.get("num_frames") is not None:
            raise ValueError("`num_frames` and `fps` exclude one another: `fps` says how many frames there are.")
        options = {name: getattr(self, name, None) for name in Sampling.__dataclass_fields__}
        if spacings:
            options.update(dict.fromkeys(SPACINGS))
        elif given.get("num_frames") is not None:
            options["fps"] = None
        options.update((name, value) for name, value in given.items() if name in options)
        return Sampling(**{**options, "is_asked_for": bool(spacings)})

    def _complete_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call that concern pixels and output, completed and in the base class's form."""
        names = [*self.valid_kwargs.__annotations__, "return_tensors"]
        options = {name: given.get(name, getattr(self, name, None)) for name in names}
        options = self._standardize_kwargs(**options)
        self._validate_preprocess_kwargs(**options)
        return options


def _typed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that have a type. Files have whole numbers where a type says floats."""
    typed = {name: settings[name] for name in FALVideoProcessorKwargs.__annotations__ if name in settings}
    for name in {"rescale_factor", "image_mean", "image_std"} & typed.keys():
        typed[name] = _with_floats(typed[name])
    return typed


def _with_floats(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_with_floats(item) for item in value]
    return float(value) if type(value) is int else value


def _spread_metadata(given: Any, *, count: int) -> list[FALVideoMetadata | None]:
    """One entry a video, from nothing, one entry, or lists of entries in any nesting."""
    if given is None:
        return [None] * count
    flat = _flatten(given)
    if len(flat) != count:
        raise ValueError(f"Expected one entry of `video_metadata` a video: {count}, got {len(flat)}.")
    return [FALVideoMetadata(**entry) for entry in flat]


def _flatten(given: Any) -> list[Mapping]:
    return [given] if isinstance(given, Mapping) else [entry for item in given for entry in _flatten(item)]


def _sample(source: Any, metadata: FALVideoMetadata | None, sampling: Sampling) -> list[SampledClip]:
    """The clips of one video, a file or frames."""
    return _decode_clips(source, sampling) if is_encoded_video(source) else _select_clips(source, metadata, sampling)


def _decode_clips(video: Any, sampling: Sampling) -> list[SampledClip]:
    """The clips of one file, decoded in one pass over the frames of all of them."""
    with VideoFile(video) as file:
        if not sampling.do_sample_frames:
            decoded = file.read()
            rows = np.arange(len(decoded.frames))[None]
        else:
            with reported(file.name):
                plan = sampling.plan(file.info, frame_seconds=file.frame_seconds)
            decoded, rows = read_all_clips(file, plan)
        return [_clip_of(decoded, clip_rows, file.info) for clip_rows in rows]


def _clip_of(decoded: VideoFrames, rows: np.ndarray, info: VideoInfo) -> SampledClip:
    in_order = len(rows) == len(decoded.frames) and bool((rows == np.arange(len(rows))).all())
    metadata = FALVideoMetadata(
        total_num_frames=info.num_frames,
        fps=info.frame_rate,
        width=info.width,
        height=info.height,
        duration=info.duration_seconds,
        video_backend="pyav",
        frames_indices=_number_frames(decoded, rows, info),
        frames_seconds=decoded.seconds[rows].tolist(),
    )
    return SampledClip(frames=decoded.frames if in_order else decoded.frames[rows], metadata=metadata)


def _number_frames(decoded: VideoFrames, rows: np.ndarray, info: VideoInfo) -> list[int] | None:
    """The numbers of the frames, as read, or from their times where the whole video keeps its frame rate."""
    if decoded.indices is not None:
        return decoded.indices[rows].tolist()
    if info.num_frames is None or info.frame_rate is None or not info.is_steady:
        return None
    numbers = decoded.seconds[rows] * info.frame_rate
    return np.rint(numbers).astype(int).tolist() if (np.abs(numbers % 1 - 0.5) > 0.4).all() else None


def _select_clips(frames: Any, known: FALVideoMetadata | None, sampling: Sampling) -> list[SampledClip]:
    known = known or FALVideoMetadata(total_num_frames=len(frames))
    as_it_is = len(frames) == sampling.num_frames and not sampling.is_asked_for and sampling.fps is None
    if not sampling.do_sample_frames or (as_it_is and sampling.num_clips == 1):
        plan = np.arange(len(frames))[None]
    else:
        plan = sampling.plan_given(len(frames), rate=known.fps).positions
    return [_selection(frames, indices, known) for indices in plan]


def _selection(frames: Any, indices: np.ndarray, known: FALVideoMetadata) -> SampledClip:
    """The chosen ones of given frames, which may be a selection of a video themselves."""
    numbers = np.arange(len(frames)) if known.frames_indices is None else np.asarray(known.frames_indices)
    numbers = numbers[indices] if len(numbers) == len(frames) else indices
    seconds = None if known.fps is None else (numbers / known.fps).tolist()
    metadata = replace(known, frames_indices=numbers.tolist(), frames_seconds=seconds)
    if np.array_equal(indices, np.arange(len(frames))):
        return SampledClip(frames=frames, metadata=metadata)
    chosen = [frames[index] for index in indices] if isinstance(frames, list) else frames[indices]
    return SampledClip(frames=chosen, metadata=metadata)


__all__ = ["FALVideoMetadata", "FALVideoProcessor", "SampledClip"]
