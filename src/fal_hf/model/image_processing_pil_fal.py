"""Frames to `pixel_values` with Pillow and NumPy.

What is unusual: floating-point frames are resized as such, not through 8 bits. torchvision is not needed.
"""

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import ImageInput, PILImageResampling, SizeDict
from transformers.processing_utils import (
    Unpack,  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]  # as the library's models do
)

from .frames import FALImageProcessorKwargs, bgr_order
from .image_processing import ImageProcessing


class FALImageProcessorPil(ImageProcessing, PilBackend):
    """Turns frames into `pixel_values` of shape (B, T, C, H, W) in float32, with Pillow and NumPy.

    The arguments, the defaults and, within the tolerance of interpolation, the pixels are those of
    [`FALImageProcessor`], which see.
    """

    join = staticmethod(np.concatenate)

    def preprocess(self, images: ImageInput, **kwargs: Unpack[FALImageProcessorKwargs]) -> BatchFeature:
        """See [`FALImageProcessor.preprocess`]."""
        return super().preprocess(images, **kwargs)

    def _preprocess_piece(self, piece: torch.Tensor, **kwargs) -> np.ndarray:
        return np.stack([self._preprocess_frame(frame, **kwargs) for frame in piece.detach().cpu().numpy()])

    def _preprocess_frame(
        self,
        frame: np.ndarray,
        *,
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling | None,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        do_flip_channel_order: bool | None,
        **kwargs,
    ) -> np.ndarray:
        if do_resize:
            frame = self.resize(frame, size, resample=resample)
        if do_center_crop:
            frame = self.center_crop(frame, crop_size)
        if do_flip_channel_order:
            frame = frame[bgr_order(len(frame))]
        if do_rescale:
            frame = self.rescale(frame, rescale_factor)
        if do_normalize:
            frame = self.normalize(frame, image_mean, image_std)
        return frame.astype(np.float32, copy=False)

    def resize(
        self, image: np.ndarray, size: SizeDict, resample: PILImageResampling | None = None, **kwargs
    ) -> np.ndarray:
        """Resizes a frame (C, H, W) of uint8 or float32; floats stay floats of whatever range."""
        if not np.issubdtype(image.dtype, np.floating):
            return super().resize(image, size, resample=resample, **kwargs)
        # the base class works out the new size from any kind of `size`
        height, width = super().resize(np.zeros((1, *image.shape[1:]), np.uint8), size, resample=resample).shape[1:]
        resample = PILImageResampling.BILINEAR if resample is None else resample
        channels = [Image.fromarray(channel).resize((width, height), resample) for channel in image]
        return np.stack([np.asarray(channel) for channel in channels])

    def center_crop(self, image: np.ndarray, size: SizeDict, **kwargs) -> np.ndarray:
        """Cuts (C, height, width) out of the middle of a frame, filled with zeros where the frame is smaller."""
        gaps = max(0, size.height - image.shape[1]), max(0, size.width - image.shape[2])
        # the odd row or column goes where torchvision puts it
        image = np.pad(image, [(0, 0), *((gap // 2, gap - gap // 2) for gap in gaps)])
        top, left = (image.shape[1] - size.height) // 2, (image.shape[2] - size.width) // 2
        return image[:, top : top + size.height, left : left + size.width]


__all__ = ["FALImageProcessorPil"]
