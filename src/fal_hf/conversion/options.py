"""
What a conversion can be told. Nothing here takes long to import: the command `fal convert` reads its choices from it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..model.attention_schemes import ATTENTION_TYPES
from ..model.label_space import LABEL_ATTENTIONS, check_prompt
from .errors import ConversionError

if TYPE_CHECKING:
    import torch

TimeTable = Literal["zero", "normal"]
Resize = Literal["smooth", "nearest"]
Preprocessing = Literal["timesformer", "imagenet", "vit", "clip"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """
    Everything that [`convert`] can be told beyond where to read and where to write.

    Args:
        revision: Branch, tag or commit of a Hub id as the source.
        attention_type: The scheme; the source's own unless given, divided for an image model. Another scheme than the
            source's is possible for models in which frames do not see one another: images and space-only attention.
            An extra step gets a copy of the attention within frames and a Linear of zeros. It has to be given where a
            file could be a space-only TimeSformer of the reference (then `"space_only"`) as well as an image model.
        num_frames: Frames of a clip, at least 1; 8 for an image model unless given.
        image_size: Side of a frame in pixels, or height and width; multiples of the patch size.
        time_table: How a time table starts that the source has not: `"zero"`, which leaves an image model's results
            as they are, or `"normal"`, normally distributed with the standard deviation of the position table, which
            shows the order of frames from the first step of training on.
        resize: How tables get to another size: `"smooth"`, bicubic and linear, or `"nearest"` as in the TimeSformer
            reference (positions along the flat sequence of patches).
        labels: A file of names, see [`read_labels`]; as many as the head has classes, or any of a CLIP.
        new_head: Whether to leave the source's head out; the new one is drawn at random, for `labels` or two classes.
        prompt: The text that stands for a label of a CLIP, with `{}` in the label's place; `"a video of {}"`, or that
            of a FAL source, unless given.
        label_attention: `"label"`, `"unified"` or `"divided"` makes tokens of the labels, for a source that has none;
            their weights are drawn at random. With `"divided"` features stay what they are until these are trained.
        label_integration_layer: Blocks that come before them, at least 0; 8 unless given.
        hierarchy: A JSON file of label and parent; the source's unless given.
        label_embeddings: A `.safetensors` file of the tokens' embeddings, a row for each label and each parent; of a
            CLIP, what images are compared with instead of the labels' texts.
        num_attention_heads: At least 1; for a source without a configuration, whose heads are else assumed to be those
            of published models: of 64 channels each, but for some widths.
        preprocessing: Mean, standard deviation and resampling of a family instead of the source's own: 0.45 and 0.225
            of `"timesformer"`, ImageNet's of `"imagenet"` (DeiT, DINO), 0.5 and 0.5 of `"vit"`, OpenAI's of `"clip"`.
        bgr: Whether the weights expect BGR frames, as the reference's of Something-Something V2 do.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`, or torch's dtype of that name; the source's unless given.
        max_shard_size: Bytes of a file of weights at most, a number or a text such as `"5GB"`.
        license: The card's, an identifier of the Hub.
        base_model: The card's, a Hub id; the source unless given, where that is one.
        repo_id: The Hub id that the card's snippets load.
        with_code: Whether to add the code for `trust_remote_code`.
        tolerance: Largest difference from the source's results, at least 0, as a share of the largest of them (or
            of 1).
        overwrite: Whether a FAL folder is replaced.

    Raises:
        ConversionError: for a value that is none of the choices or out of range.
    """

    revision: str | None = None
    attention_type: str | None = None
    num_frames: int | None = None
    image_size: int | tuple[int, int] | None = None
    time_table: TimeTable = "zero"
    resize: Resize = "smooth"
    labels: str | PathLike | None = None
    new_head: bool = False
    prompt: str | None = None
    label_attention: str | None = None
    label_integration_layer: int | None = None
    hierarchy: str | PathLike | None = None
    label_embeddings: str | PathLike | None = None
    num_attention_heads: int | None = None
    preprocessing: Preprocessing | None = None
    bgr: bool = False
    dtype: Dtype | torch.dtype | None = None
    max_shard_size: int | str = "5GB"
    license: str = "unknown"
    base_model: str | None = None
    repo_id: str | None = None
    with_code: bool = False
    tolerance: float = 1e-4
    overwrite: bool = False

    def __post_init__(self):
        self._require_choice("attention_type", self.attention_type, (None, *ATTENTION_TYPES))
        self._require_choice("time_table", self.time_table, get_args(TimeTable))
        self._require_choice("label_attention", self.label_attention, (None, *LABEL_ATTENTIONS))
        self._require_choice("resize", self.resize, get_args(Resize))
        self._require_choice("preprocessing", self.preprocessing, (None, *get_args(Preprocessing)))
        self._require_choice("dtype", self.dtype_name, (None, *get_args(Dtype)))
        for name in ("num_frames", "num_attention_heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConversionError(f"{name}: expected a whole number of at least 1, got {value}")
        if (self.label_integration_layer or 0) < 0:
            layer = self.label_integration_layer
            raise ConversionError(f"label_integration_layer: expected a whole number of at least 0, got {layer}")
        if self.prompt is not None:
            self._require_prompt(self.prompt)
        if not self.tolerance >= 0:
            raise ConversionError(f"tolerance: expected a number of at least 0, got {self.tolerance}")
        self._require_license()
        self._require_size()
        self._require_repo_id()

    @property
    def dtype_name(self) -> str | None:
        """`dtype` as its name: torch.float16 is "float16"."""
        return None if self.dtype is None else str(self.dtype).removeprefix("torch.")

    def _require_choice(self, option: str, value: Any, choices: Collection) -> None:
        if value not in choices:
            raise ConversionError(f"{option}: expected one of {', '.join(map(str, choices))}; got {value!r}")

    def _require_prompt(self, prompt: str) -> None:
        try:
            check_prompt(prompt)
        except ValueError as error:
            raise ConversionError(f"prompt: {error}") from error

    def _require_size(self) -> None:
        size = self.max_shard_size
        if not (size > 0 if isinstance(size, int) else re.fullmatch(r"\d+(\.\d+)? *[KMGT]B", size, re.IGNORECASE)):
            raise ConversionError(f"max_shard_size: expected a number of bytes or a text such as 5GB, got {size!r}")

    def _require_repo_id(self) -> None:
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        if self.repo_id is not None:
            try:
                validate_repo_id(self.repo_id)
            except HFValidationError as error:
                raise ConversionError(f"repo_id: {error}") from error

    def _require_license(self) -> None:
        from ..hub.model_card import LICENSES  # imports torch

        if self.license not in LICENSES - {"other"}:
            raise ConversionError(
                f"license: expected an identifier of the Hub (mit, cc-by-nc-4.0, ...), got {self.license!r}"
            )


__all__ = ["ConversionOptions"]
