# SPDX-License-Identifier: MIT

"""`pipeline("zero-shot-video-classification")`: videos and any labels to the labels' scores."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, cast

import torch
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import Pipeline
from transformers.video_processing_utils import BaseVideoProcessor

from .label_names import split_labels
from .label_space import check_labels, check_prompt
from .modeling_fal import FALSimilarityHead, FALVideoClassifierForVideoClassification

MULTI_LABEL = "multi_label_classification"


class ZeroShotVideoClassificationPipeline(Pipeline):
    """
    Scores any labels for videos, with a model that has label embeddings and a text tower.

    A call gives the model its labels, by `set_labels`, and leaves them there. Each text goes through the text tower
    once. Options of a call may be given to `pipeline` instead.

    Example:

    ```python
    >>> import fal_hf
    >>> from transformers import pipeline

    >>> pipe = pipeline("zero-shot-video-classification", model="clip")
    >>> pipe("video.mp4", candidate_labels=["a dog runs", "a car turns"])
    ```

    Raises:
        ValueError: the model takes no labels but its own.
    """

    _load_processor = False
    _load_image_processor = None  # batches need one
    _load_video_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    model: FALVideoClassifierForVideoClassification

    def __init__(self, model: FALVideoClassifierForVideoClassification, *args, **kwargs):
        if not hasattr(model, "require_label_embeddings"):
            raise ValueError(f"expected a FAL model with label embeddings, got a {type(model).__name__}")
        model.require_label_embeddings()
        self.template = model.config.label_prompt  # which the calls change
        super().__init__(model, *args, **kwargs)

    def __call__(self, videos: Any, candidate_labels: Sequence[str] | str | None = None, **kwargs) -> Any:
        """
        Scores labels for one video or many.

        Args:
            videos: A video (path, URL, bytes, binary file object or frames), or a list of them.
            candidate_labels: The labels, a list, or a text with commas between them.
            kwargs: `hypothesis_template` (the text that stands for a label, with `{}` in its place; the model's own
                unless given), `multi_label` (scores that are independent of one another, by sigmoid, where they add up
                to one by softmax otherwise), `num_frames` (of a clip), `batch_size`, `num_workers`.

        Returns:
            All labels by falling score, a list of `{"score": float, "label": str}`; for a list of videos a list of
            those.

        Raises:
            ValueError: there are no labels, or the same one twice; the template has no `{}`; or the model has no text
                tower.
            VideoError: (a ValueError) a video cannot be read.
        """
        if candidate_labels is not None:
            kwargs["candidate_labels"] = candidate_labels
        elif "labels" not in self._forward_params:
            raise ValueError('expected labels, candidate_labels=["a dog runs", "a car turns"], got none')
        return super().__call__(videos, **kwargs)

    def _sanitize_parameters(
        self,
        candidate_labels: Sequence[str] | str | None = None,
        hypothesis_template: str | None = None,
        multi_label: bool | None = None,
        num_frames: int | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        labels = split_labels(candidate_labels) if isinstance(candidate_labels, str) else candidate_labels
        if labels is not None:
            check_labels(labels)
        if hypothesis_template is not None:
            check_prompt(hypothesis_template)
        if multi_label:
            cast(FALSimilarityHead, self.model.classifier).check_bias()
        return (
            given(num_frames=num_frames),
            given(labels=labels, template=hypothesis_template),
            given(labels=labels, multi_label=multi_label),
        )

    def preprocess(self, input_: Any, num_frames: int | None = None) -> Any:
        """One clip of a video, `pixel_values` of `(1, T, C, H, W)`."""
        options = {"num_frames": num_frames or self.model.config.num_frames, "do_sample_frames": True}
        processor = cast(BaseVideoProcessor, self.video_processor)
        return processor(input_, **options, return_tensors="pt").to(self.dtype)

    def _forward(
        self, input_tensors: Any, labels: Sequence[str], template: str | None = None
    ) -> dict[str, torch.Tensor]:
        self.model.set_labels(labels, prompt=template or self.template)
        return {"logits": self.model(**input_tensors).logits}

    def postprocess(
        self, model_outputs: dict[str, torch.Tensor], labels: Sequence[str], multi_label: bool = False
    ) -> list[dict[str, Any]]:
        """All labels with their scores, the best first."""
        logits = model_outputs["logits"][0].float()
        is_several = multi_label or self.model.config.problem_type == MULTI_LABEL
        scores = logits.sigmoid() if is_several else logits.softmax(dim=-1)
        best = scores.sort(descending=True, stable=True)
        return [
            {"score": score, "label": labels[number]}
            for score, number in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def save_pretrained(self, save_directory: str | PathLike, **kwargs) -> None:
        """As `Pipeline.save_pretrained`; with the code of this class where the configuration refers to it."""
        super().save_pretrained(save_directory, **kwargs)
        if hasattr(self.model.config, "custom_pipelines"):
            custom_object_save(self, save_directory)


def given(**options: Any) -> dict[str, Any]:
    """The options that are; of the others those hold that the pipeline was made with."""
    return {name: value for name, value in options.items() if value is not None}


__all__ = ["ZeroShotVideoClassificationPipeline"]
