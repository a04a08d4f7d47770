"""Frames in all their forms, read as clips of tensors; and what all FAL processors share. No torchvision here.

What is unusual: one list of frames is one clip, and floating-point clips that already lie in [0, 1] are recognized.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from math import isfinite
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_base import BatchFeature
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import ChannelDimension, PILImageResampling
from transformers.processing_utils import ImagesKwargs
from transformers.utils.generic import TensorType

CHANNEL_COUNTS = (1, 3, 4)
# PIL modes that convert to RGB as they are meant. Of those with more than 8 bits no one knows which value is white.
PIL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


class FALImageProcessorKwargs(ImagesKwargs, total=False):
    """
    do_flip_channel_order (`bool`, *optional*, defaults to `self.do_flip_channel_order`):
        Whether to hand out BGR instead of RGB, as weights trained on BGR frames expect (Something-Something V2).
        `image_mean` and `image_std` then belong to the channels in their order after the flip.
    """

    do_flip_channel_order: bool | None


def is_frame(value: Any) -> bool:
    """Whether `value` is one frame: a PIL image, or an array or tensor of 2 (grayscale) or 3 dimensions."""
    return isinstance(value, Image.Image) or (isinstance(value, np.ndarray | torch.Tensor) and value.ndim in (2, 3))


def split_into_clips(images: Any, *, is_clip: Callable[[Any], bool] = lambda value: False) -> list:
    """Sorts frames in any nesting into clips.

    Args:
        images: One frame (a clip of its own), a list of frames (one clip), a 4-D array or tensor (one clip), a 5-D
            one (many clips), or lists of these.
        is_clip: Tells what else is a clip by itself, such as a file.

    Returns:
        One entry a clip: a list of frames, a 4-D array or tensor, or what `is_clip` says.

    Raises:
        ValueError: where there is nothing, a frame without pixels, or something else than frames.
    """
    if is_clip(images):
        return [images]
    if is_frame(images):
        check_pixels(images)
        return [[images]]
    if isinstance(images, np.ndarray | torch.Tensor) and images.ndim in (4, 5):
        check_pixels(images)
        return [images] if images.ndim == 4 else list(images)
    if not isinstance(images, list | tuple) or len(images) == 0:
        raise ValueError(f"Expected frames, a list of frames, or arrays of 3 to 5 dimensions; got {describe(images)}.")
    if all(is_frame(item) for item in images):
        for frame in images:
            check_pixels(frame)
        return [list(images)]
    if any(is_frame(item) for item in images):
        raise ValueError("A list holds single frames and whole clips together; give each clip a list of its own.")
    return [clip for item in images for clip in split_into_clips(item, is_clip=is_clip)]


def check_pixels(frames: Image.Image | np.ndarray | torch.Tensor) -> None:
    """Raises a ValueError where a frame, or an array of frames, holds nothing."""
    if 0 in (frames.size if isinstance(frames, Image.Image) else frames.shape):
        raise ValueError(f"Expected frames of at least one pixel, and at least one of them; got {describe(frames)}.")


def describe(value: Any) -> str:
    """A few words about an unexpected value, for a message."""
    if isinstance(value, Image.Image):
        return f"a PIL image of {value.width} x {value.height} pixels"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return f"an empty {type(value).__name__}" if value in ([], ()) else type(value).__name__


def has_channels_first(shape: tuple[int, ...], *, input_data_format: str | ChannelDimension | None = None) -> bool:
    """Whether frames of this shape, (..., C, H, W) or (..., H, W, C), have their channels first.

    Where both ends could be channels, the one of 3 is taken, and at a tie the first.

    Raises:
        ValueError: where neither end can be channels.
    """
    if input_data_format is not None:
        return ChannelDimension(input_data_format) == ChannelDimension.FIRST
    first, last = shape[-3], shape[-1]
    if first not in CHANNEL_COUNTS and last not in CHANNEL_COUNTS:
        raise ValueError(
            f"Frames of shape {tuple(shape[-3:])} have no axis of 1, 3 or 4 channels, neither first nor last; "
            "give (channels, height, width) or (height, width, channels)."
        )
    return first == 3 or (last != 3 and first in CHANNEL_COUNTS)


def read_pixels(frames: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Frames as a tensor of uint8 (0 to 255) or float32, without a copy where none is needed.

    Raises:
        ValueError: for integers beyond 0 to 255.
        TypeError: for what are no real numbers, or ones of more than 64 bits.
    """
    if isinstance(frames, np.ndarray) and frames.dtype.kind in "biuf" and frames.dtype.itemsize <= 8:
        native = frames.astype(frames.dtype.newbyteorder("="), copy=False)
        # torch can neither share reversed arrays nor read-only ones
        shareable = native.flags.writeable and all(stride >= 0 for stride in native.strides)
        frames = torch.from_numpy(native if shareable else native.copy())
    if not isinstance(frames, torch.Tensor) or frames.is_complex():
        raise TypeError(f"Expected frames of integers or floats of up to 64 bits; got {frames.dtype}.")
    if frames.dtype == torch.uint8:
        return frames
    if frames.is_floating_point() or frames.dtype == torch.bool:
        return frames.to(torch.float32)
    values = frames.to(torch.int64)  # a few integer types of torch have no minimum
    if values.numel() and (values.min() < 0 or values.max() > 255):
        raise ValueError(
            f"Integer frames must hold values from 0 to 255; got {int(values.min())} to {int(values.max())}. "
            "Frames of more bits are to be divided by their largest value, which gives floats in [0, 1]."
        )
    return values.to(torch.uint8)


def arrange_frames(
    frames: np.ndarray | torch.Tensor,
    *,
    do_convert_rgb: bool | None = True,
    input_data_format: str | ChannelDimension | None = None,
) -> torch.Tensor:
    """Frames of one size, (T, C, H, W), (T, H, W, C) or (T, H, W), as (T, C, H, W) of uint8 or float32.

    Grayscale is repeated and transparency blended with white where `do_convert_rgb`; no pixel is copied otherwise.
    """
    pixels = read_pixels(frames)
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)  # (T, H, W) -> (T, 1, H, W)
    elif not has_channels_first(pixels.shape, input_data_format=input_data_format):
        pixels = pixels.permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    if not do_convert_rgb or pixels.shape[1] == 3:
        return pixels
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else blend_with_white(pixels)


def blend_with_white(pixels: torch.Tensor) -> torch.Tensor:
    """RGBA frames (T, 4, H, W) over white, (T, 3, H, W), in the type and the range of the input."""
    white = 1.0 if pixels.is_floating_point() and is_scaled([pixels]) else 255.0
    colors, alpha = pixels[:, :3].float(), pixels[:, 3:].float() / white
    blended = alpha * colors + (1 - alpha) * white
    return blended.round().to(torch.uint8) if pixels.dtype == torch.uint8 else blended


def is_scaled(pieces: list[torch.Tensor]) -> bool:
    """
    Whether the floating-point frames of one clip all lie in [0, 1], that is, are scaled already.

    Raises:
        ValueError: for values that are infinite, as float32, or no numbers.
    """
    ranges = [[float(end) for end in piece.detach().aminmax()] for piece in pieces if piece.is_floating_point()]
    if not all(isfinite(end) for ends in ranges for end in ends):
        raise ValueError("Expected frames of finite numbers; got frames with infinite values or NaN. Replace those.")
    return bool(ranges) and all(low >= 0 and high <= 1 for low, high in ranges)


def read_clip(
    clip: list | np.ndarray | torch.Tensor,
    *,
    do_convert_rgb: bool | None = True,
    input_data_format: str | ChannelDimension | None = None,
    device: "str | torch.device | None" = None,
) -> list[torch.Tensor]:
    """One clip as a list of pieces, each (t, C, H, W) of uint8 or float32: runs of frames of the same size and type.

    A clip whose frames are all alike is a single piece, so no later step needs a loop over frames.
    """
    runs = [clip] if isinstance(clip, np.ndarray | torch.Tensor) else _join_like_frames(clip, do_convert_rgb)
    options = {"do_convert_rgb": do_convert_rgb, "input_data_format": input_data_format}
    pieces = [arrange_frames(run, **options) for run in runs]
    return pieces if device is None else [piece.to(device) for piece in pieces]


def _join_like_frames(frames: list, do_convert_rgb: bool | None) -> list[torch.Tensor]:
    tensors = [_read_frame(frame, do_convert_rgb) for frame in frames]
    runs = groupby(tensors, key=lambda frame: (frame.shape, frame.dtype, frame.device))
    return [torch.stack(list(run)) for _, run in runs]


def _read_frame(frame: Image.Image | np.ndarray | torch.Tensor, do_convert_rgb: bool | None) -> torch.Tensor:
    if not isinstance(frame, Image.Image):
        return read_pixels(frame)
    if frame.mode not in PIL_MODES:
        raise ValueError(
            f"Expected PIL frames of a mode among {', '.join(PIL_MODES)}; got {frame.mode}. Convert it, or give "
            "the array of its values divided by the largest one that there can be, which is floats in [0, 1]."
        )
    return read_pixels(np.asarray(convert_to_rgb(frame, return_numpy=True) if do_convert_rgb else frame))


class PixelDefaults:
    """The settings that all FAL processors start from."""

    resample = PILImageResampling.BILINEAR
    image_mean = (0.45, 0.45, 0.45)
    image_std = (0.225, 0.225, 0.225)
    size = {"shortest_edge": 224}
    default_to_square = False
    crop_size = {"height": 224, "width": 224}
    do_resize = True
    do_center_crop = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    do_convert_rgb = True
    do_flip_channel_order = False
    model_input_names = ["pixel_values"]


class ClipPreprocessing(PixelDefaults):
    """
    The way from frames to pixel values that all FAL processors share: whole clips, in pieces of like frames.

    A processor brings `_preprocess_piece`, which makes the values of a piece, and `join`, which puts pieces together.
    """

    _preprocess_piece: Callable[..., torch.Tensor | np.ndarray]
    join: Callable[[list], torch.Tensor | np.ndarray]

    def _preprocess(
        self, images: list[list[torch.Tensor]], *, return_tensors: str | TensorType | None = None, **kwargs
    ) -> BatchFeature:
        """Clips, each a list of pieces (t, C, H, W), to `pixel_values` (B, T, C, H, W)."""
        clips = [self._preprocess_clip(pieces, **kwargs) for pieces in images]
        return batch_clips(clips, return_tensors=return_tensors)

    def _preprocess_clip(self, pieces: list[torch.Tensor], *, rescale_factor: float, **kwargs):
        """The pieces of one clip as one tensor or array (T, C, H, W)."""
        scaled = is_scaled(pieces)
        made = []
        for piece in pieces:
            if kwargs["do_normalize"]:
                check_channels(piece.shape[1], image_mean=kwargs["image_mean"], image_std=kwargs["image_std"])
            factor = rescale_factor * 255 if scaled and piece.is_floating_point() else rescale_factor
            made.append(self._preprocess_piece(piece, rescale_factor=factor, **kwargs))
        check_equal_shapes([piece[0] for piece in made], what="frames of a clip")
        return made[0] if len(made) == 1 else self.join(made)


def bgr_order(num_channels: int) -> list[int]:
    """The order of channels that turns RGB into BGR and the other way; alpha stays last, and gray is gray."""
    return [2, 1, 0, *range(3, num_channels)] if num_channels >= 3 else list(range(num_channels))


def check_channels(count: int, **settings: float | Sequence[float]) -> None:
    """Raises a ValueError where a setting with a value for each channel does not fit frames of `count` channels."""
    for name, values in settings.items():
        if isinstance(values, Sequence) and len(values) not in (1, count):
            raise ValueError(
                f"Expected one value in `{name}`, or one for each channel of the frames: {count}; got {len(values)}. "
                "Keep `do_convert_rgb` for frames of other channels than RGB."
            )


def check_equal_shapes(arrays: list, *, what: str) -> None:
    """Raises a ValueError that tells what to do where `arrays` cannot be stacked."""
    shapes = sorted({tuple(array.shape) for array in arrays})
    if len(shapes) > 1:
        raise ValueError(
            f"The {what} have different shapes after preprocessing: {shapes}. Keep `do_resize` and `do_center_crop` "
            "for frames of different sizes, give clips of the same number of frames, or leave out `return_tensors`."
        )


def batch_clips(clips: list, *, return_tensors: str | TensorType | None) -> BatchFeature:
    """Clips (T, C, H, W) as `pixel_values` (B, T, C, H, W), or as a list where no tensors are asked for."""
    if return_tensors is not None:
        check_equal_shapes(clips, what="clips of a batch")
    return BatchFeature(data={"pixel_values": clips}, tensor_type=return_tensors)


__all__ = ["ClipPreprocessing", "FALImageProcessorKwargs"]
