"""Frames to pixel values with torchvision, for the image and the video processor alike."""

import torch
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import PILImageResampling, SizeDict

from .frames import ClipPreprocessing, bgr_order


class TorchvisionPreprocessing(ClipPreprocessing, TorchvisionBackend):
    """What the image and the video processor share: no loop over the frames of a piece."""

    join = staticmethod(torch.cat)

    def _preprocess_piece(
        self,
        piece: torch.Tensor,
        *,
        do_resize: bool,
        size: SizeDict,
        resample: "PILImageResampling | int | None",
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        do_flip_channel_order: bool | None,
        **kwargs,
    ) -> torch.Tensor:
        if do_resize:
            piece = self.resize(piece, size=size, resample=resample)
        if do_center_crop:
            piece = self.center_crop(piece, crop_size)
        if do_flip_channel_order:
            piece = piece[:, bgr_order(piece.shape[1])]
        # channels-last frames become (T, C, H, W) in memory here, where they are small and still bytes
        piece = piece.contiguous()
        piece = self.rescale_and_normalize(piece, do_rescale, rescale_factor, do_normalize, image_mean, image_std)
        return piece.to(torch.float32)


__all__ = ["TorchvisionPreprocessing"]
