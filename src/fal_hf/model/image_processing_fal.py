"""Frames to `pixel_values` with torchvision."""

from transformers.image_processing_base import BatchFeature
from transformers.image_utils import ImageInput
from transformers.processing_utils import (
    Unpack,  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]  # as the library's models do
)

from .frames import FALImageProcessorKwargs
from .image_processing import ImageProcessing
from .torchvision_frames import TorchvisionPreprocessing


class FALImageProcessor(ImageProcessing, TorchvisionPreprocessing):
    """Turns frames into `pixel_values` of shape (B, T, C, H, W) in float32, with torchvision.

    By default the short side is resized to 224 (bilinear, antialiased), the middle 224 x 224 are cut out, values are
    divided by 255, and mean 0.45 and standard deviation 0.225 normalize them.

    Values: integers are 0 to 255. A floating-point clip whose values all lie in [0, 1] is taken as scaled already and
    is not divided by 255 again; any other floating-point clip, negative values and all, is taken as 0 to 255. The
    decision is made for a clip as a whole, so that a dark frame is not scaled otherwise than its neighbors. Frames
    that are normalized already pass with `do_rescale=False, do_normalize=False`.

    Frames that are not RGB become it: grayscale is repeated, transparency is blended with white.
    """

    def preprocess(self, images: ImageInput, **kwargs: Unpack[FALImageProcessorKwargs]) -> BatchFeature:
        """Prepares one clip or many.

        Args:
            images: One frame (a clip of one frame), a list of frames (**one** clip), a 4-D array or tensor (one clip),
                a 5-D one or nested lists (many clips). Frames are PIL images of up to 8 bits a channel, arrays or
                tensors, (H, W, C), (C, H, W) or (H, W), of any and of mixed sizes.
            **kwargs: Any attribute of the processor, for this call alone.

        Returns:
            `pixel_values` (B, T, C, H, W) in float32; a list of B clips where `return_tensors` is not given.

        Raises:
            ValueError: for no frames, frames without pixels, integers beyond 0 to 255, infinite values and NaN, PIL
                images of more bits, frames without a channel axis, and clips that cannot be stacked to one tensor.
            TypeError: for what are no frames.
        """
        return super().preprocess(images, **kwargs)


__all__ = ["FALImageProcessor"]
