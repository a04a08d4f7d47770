"""Frames to `pixel_values` with torchvision."""

import torch
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import ImageInput
from transformers.processing_utils import (
    Unpack,  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]  # as the library's models do
)

from .frames import FALImageProcessorKwargs, read_clip, split_into_clips
from .torchvision_frames import TorchvisionPreprocessing


class FALImageProcessor(TorchvisionPreprocessing):
    """Turns frames into `pixel_values` of shape (B, T, C, H, W) in float32, with torchvision.

    By default the short side is resized to 224 (bilinear, antialiased), the middle 224 x 224 are cut out, values are
    divided by 255, and mean 0.45 and standard deviation 0.225 normalize them.

    Values: integers are 0 to 255. A floating-point clip whose values all lie in [0, 1] is taken as scaled already and
    is not divided by 255 again; any other floating-point clip, negative values and all, is taken as 0 to 255. The
    decision is made for a clip as a whole, so that a dark frame is not scaled otherwise than its neighbors. Frames
    that are normalized already pass with `do_rescale=False, do_normalize=False`.

    Frames that are not RGB become it: grayscale is repeated, transparency is blended with white.
    """

    valid_kwargs = FALImageProcessorKwargs

    def __init__(self, **kwargs: Unpack[FALImageProcessorKwargs]):
        super().__init__(**kwargs)

    def preprocess(self, images: ImageInput, **kwargs: Unpack[FALImageProcessorKwargs]) -> BatchFeature:
        """Prepares one clip or many.

        Args:
            images: One frame (a clip of one frame), a list of frames (**one** clip), a 4-D array or tensor (one clip),
                a 5-D one or nested lists (many clips). Frames are PIL images, arrays or tensors, (H, W, C), (C, H, W)
                or (H, W), of any and of mixed sizes.
            **kwargs: Any attribute of the processor, for this call alone.

        Returns:
            `pixel_values` (B, T, C, H, W) in float32; a list of B clips where `return_tensors` is not given.

        Raises:
            ValueError: for no frames, integers beyond 0 to 255, frames without a channel axis, and clips that cannot
                be stacked to one tensor.
        """
        return super().preprocess(images, **kwargs)

    def _prepare_image_like_inputs(
        self,
        images: ImageInput,
        *,
        do_convert_rgb: bool | None,
        input_data_format: str | None,
        device: "str | torch.device | None" = None,
        **kwargs,
    ) -> list[list[torch.Tensor]]:
        fetched = self.fetch_images(images)  # pyright: ignore[reportArgumentType]  # the hint leaves out images
        clips = split_into_clips(fetched)
        options = {"do_convert_rgb": do_convert_rgb, "input_data_format": input_data_format, "device": device}
        return [read_clip(clip, **options) for clip in clips]


__all__ = ["FALImageProcessor"]
