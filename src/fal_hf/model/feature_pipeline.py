# SPDX-License-Identifier: MIT

"""`pipeline("video-feature-extraction")`: videos to what a model without a head knows of them."""

from typing import Any, cast

import torch
from transformers.pipelines.image_feature_extraction import ImageFeatureExtractionPipeline
from transformers.video_processing_utils import BaseVideoProcessor

from .modeling_fal import FALModel, FALModelOutput


class VideoFeatureExtractionPipeline(ImageFeatureExtractionPipeline):
    """
    The tokens or, with `pool=True`, the embedding of one clip of a video, from a [`FALModel`].

    A video is a path, URL, bytes, binary file object or frames; a list of them gives a list. Options of a call may be
    given to `pipeline` instead: `pool` (whether the embedding `(1, D)` is returned rather than all tokens
    `(1, 1 + T·H·W, D)`), `return_tensors` (a tensor rather than lists), `num_frames` (of the clip), `batch_size`.

    Example:

    ```python
    >>> import fal_hf
    >>> from transformers import pipeline

    >>> extract = pipeline("video-feature-extraction", model="SVECTOR-CORPORATION/FAL", pool=True)
    >>> extract("video.mp4", return_tensors=True).shape
    torch.Size([1, 768])
    ```

    Raises:
        VideoError: (a `ValueError`) a video cannot be read.
    """

    _load_image_processor = None  # batches need one
    _load_video_processor = True

    model: FALModel

    def _sanitize_parameters(
        self, pool: bool | None = None, return_tensors: bool | None = None, num_frames: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        _, _, postprocess = super()._sanitize_parameters(pool=pool, return_tensors=return_tensors)
        return (
            {} if num_frames is None else {"num_frames": num_frames},
            {} if pool is None else {"cls_only": pool},
            postprocess,
        )

    def preprocess(self, image: Any, num_frames: int | None = None) -> Any:
        """One clip of a video, `pixel_values` of `(1, T, C, H, W)`."""
        options = {"num_frames": num_frames or self.model.config.num_frames, "do_sample_frames": True}
        processor = cast(BaseVideoProcessor, self.video_processor)
        return processor(image, **options, return_tensors="pt").to(self.dtype)

    def _forward(self, model_inputs: dict[str, torch.Tensor], cls_only: bool = False) -> FALModelOutput:
        return self.model(**model_inputs, cls_only=cls_only)


__all__ = ["VideoFeatureExtractionPipeline"]
