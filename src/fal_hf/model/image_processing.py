"""What the image processors of both backends share: frames in any nesting, and the video processor beside them.

What is unusual: a pipeline saves its image processor but not its video processor, which says what frames make a clip.
The image processor that a pipeline loads therefore remembers the settings of the one beside it and saves them, too.
"""

import os
from typing import Any

import torch
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import ImageInput
from transformers.processing_utils import (
    Unpack,  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]  # as the library's models do
)
from transformers.video_processing_utils import BaseVideoProcessor

from .frames import ClipPreprocessing, FALImageProcessorKwargs, describe, read_clip, split_into_clips


class ImageProcessing(ClipPreprocessing, BaseImageProcessor):
    """All of [`FALImageProcessor`], which see, but how the pixels of a piece are computed."""

    valid_kwargs = FALImageProcessorKwargs

    _video_processor_settings: dict[str, Any] | None = None

    def __init__(self, **kwargs: Unpack[FALImageProcessorKwargs]):
        super().__init__(**kwargs)

    @classmethod
    def get_image_processor_dict(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> tuple[dict, dict]:
        """Settings of a saved processor; in a pipeline also those of the FALVideoProcessor in the same place."""
        settings, unused = super().get_image_processor_dict(pretrained_model_name_or_path, **kwargs)
        if kwargs.get("_from_pipeline") is not None:
            beside, _ = BaseVideoProcessor.get_video_processor_dict(pretrained_model_name_or_path, **kwargs)
            if beside.get("video_processor_type") == "FALVideoProcessor":
                settings = {**settings, "_video_processor_settings": beside}
        return settings, unused

    def to_dict(self) -> dict[str, Any]:
        """The settings of the image processor itself."""
        settings = super().to_dict()
        settings.pop("_video_processor_settings", None)
        return settings

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Saves `preprocessor_config.json`; the one of a pipeline also saves `video_preprocessor_config.json`."""
        files = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        if self._video_processor_settings is not None:
            from .video_processing_fal import FALVideoProcessor  # which imports this module

            beside = FALVideoProcessor(**self._video_processor_settings)
            files += beside.save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        return files

    def _prepare_image_like_inputs(
        self,
        images: ImageInput,
        *,
        do_convert_rgb: bool | None,
        input_data_format: str | None,
        device: "str | torch.device | None" = None,
        **kwargs,
    ) -> list[list[torch.Tensor]]:
        try:
            fetched = self.fetch_images(images)  # pyright: ignore[reportArgumentType]  # the hint leaves out images
        except TypeError as error:
            raise TypeError(f"Expected frames, or lists of them; got {describe(images)}: {error}") from error
        options = {"do_convert_rgb": do_convert_rgb, "input_data_format": input_data_format, "device": device}
        return [read_clip(clip, **options) for clip in split_into_clips(fetched)]


__all__ = ["ImageProcessing"]
