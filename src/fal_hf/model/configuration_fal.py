# SPDX-License-Identifier: MIT

"""FALConfig: every size and every choice of a FAL model; bad values are rejected at construction."""

from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils.auto_docstring import auto_docstring

from .attention_schemes import ATTENTION_TYPES
from .label_space import LABEL_ATTENTIONS, LabelSpace, check_prompt
from .patch_layout import PATCH_LAYOUTS, AdaptivePatches, check_scheme

ATTENTION_ORDERS = ("time_space", "space_time", "parallel")
POSITION_EMBEDDING_TYPES = ("space_time", "space_only", "none")
NORM_LAYOUTS = ("vit", "clip")
CLASSIFIER_TYPES = ("linear", "similarity")
# Far above any model; the layers of a damaged file's number would take hours to make.
MOST_LAYERS = 1000

# Of those that float32 holds in full: with a smaller epsilon, layer norms of equal values divide zero by zero.
SMALLEST_FLOAT32 = 2.0**-126

# The paper's variants (table 5, section 4.14); a patch size of 32 is `from_preset(name, patch_size=32)`.
PRESETS: dict[str, dict[str, Any]] = {
    "fal": {},
    "fal-hr": {"num_frames": 16, "image_size": 448},
    "fal-l": {"num_frames": 96},
    "fal-small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "fal-base": {},
    "fal-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}


@auto_docstring(
    custom_intro="""
    The configuration of a [`FALModel`]. The defaults are the paper's base model: 8 frames of 224 x 224 pixels,
    12 divided space-time blocks of width 768. A value of the wrong type, and values that contradict one another, raise
    a `huggingface_hub.errors.StrictDataclassError` that says what was expected.
    """
)
@strict
class FALConfig(PreTrainedConfig):
    r"""
    hidden_size (`int`, defaults to 768):
        Width D of the tokens.
    num_hidden_layers (`int`, defaults to 12):
        Number L of blocks.
    num_attention_heads (`int`, defaults to 12):
        Number of heads of each attention step; divides `hidden_size`.
    intermediate_size (`int`, defaults to 3072):
        Width of the hidden layer of each block's MLP.
    hidden_act (`str`, defaults to `"gelu"`):
        Activation of the MLPs, by its name in transformers.
    hidden_dropout_prob (`float`, defaults to 0.0):
        Dropout of embeddings, attention outputs and MLPs.
    attention_probs_dropout_prob (`float`, defaults to 0.0):
        Dropout of the attention weights.
    drop_path_rate (`float`, defaults to 0.0):
        Stochastic depth: probability of leaving out the last block's residuals for a sample; it grows linearly
        from 0 at the first block.
    initializer_range (`float`, defaults to 0.02):
        Standard deviation of the truncated normal initialization.
    layer_norm_eps (`float`, defaults to 1e-6):
        Epsilon of the layer norms.
    qkv_bias (`bool`, defaults to `True`):
        Whether the query, key and value projections have a bias.
    image_size (`int` or `[height, width]`, defaults to 224):
        Frame size in pixels that the position table is made for. Other sizes interpolate the table.
    patch_size (`int`, defaults to 16):
        Side P of a patch in pixels.
    patch_layout (`str`, defaults to `"uniform"`):
        How a picture is laid out in patches (paper, section 4): `"uniform"`, all of them P x P pixels; `"adaptive"`,
        where cells of 2 x 2 patches in which little happens are one token each, which needs divided, space-only or
        joint attention; `"static"`, where patches that do not change from frame to frame are left out, which needs
        joint attention.
    patch_share (`float`, defaults to 0.5):
        Places of an adaptive layout as a share of the uniform one's, in [0.25, 1], unless there is a threshold.
    patch_threshold (`float`, *optional*):
        Complexity above which a cell of an adaptive layout stays split, or change below which a patch of a static one
        is left out, see [`AdaptivePatches`]; how many tokens there are then depends on the clip.
    num_channels (`int`, defaults to 3):
        Color channels of a frame.
    num_frames (`int`, defaults to 8):
        Frames of a clip that the time table is made for. Other counts interpolate the table.
    attention_type (`str`, defaults to `"divided_space_time"`):
        The space-time attention scheme (paper, table 1): `"divided_space_time"`, `"space_only"`,
        `"joint_space_time"`, `"sparse_local_global"` or `"axial"`.
    attention_order (`str`, defaults to `"time_space"`):
        Order of divided attention (paper, section 4.14): `"time_space"`, `"space_time"` or `"parallel"`.
    position_embedding_type (`str`, defaults to `"space_time"`):
        Learned tables that are added to the patches (paper, table 4): `"space_time"`, `"space_only"` or `"none"`.
    cls_in_temporal_attention (`bool`, defaults to `True`):
        Whether the CLS token is a key of the temporal step, as the paper's equation has it. TimeSformer
        checkpoints leave it out: a `config.json` without this entry is read as `False`.
    norm_layout (`str`, defaults to `"vit"`):
        Where layer norms stand besides those of the blocks: `"vit"`, after the last block, with space-only attention
        on the average of the frames' CLS tokens; `"clip"`, before the first block as well, and the last one on each
        frame's CLS token before they are averaged, as CLIP's image embeddings are.
    classifier_type (`str`, defaults to `"linear"`):
        How a clip is scored: `"linear"`, by a head that is trained for the labels; `"similarity"`, by the cosine of
        its projected embedding and the labels' embeddings, which leaves the labels open to change.
    classifier_hidden_size (`int`, *optional*):
        Width of the hidden layer of a linear classification head. `None` is a Linear by itself.
    temperature (`float`, defaults to 1.0):
        What all scores are divided by before softmax or sigmoid (Guo et al., 2017): `fal evaluate --calibrate` finds
        the one with which probabilities are right as often as they say.
    label_attention (`str`, defaults to `"none"`):
        How labels take part as tokens (paper, sections 4.1 and 4.2): `"none"`; `"label"`, where from the integration
        layer on only they go on; `"unified"`, one attention over features and labels; `"divided"`, attention within
        the labels and between labels and features.
    label_integration_layer (`int`, defaults to 8):
        Blocks that come before the labels (paper, section 4.4); below `num_hidden_layers`.
    label_embedding_size (`int`, defaults to 768):
        Width of the labels' embeddings, which are projected to `hidden_size` (paper, section 4.4), and to which a
        clip's is projected for their similarity.
    label_prompt (`str`, defaults to `"a video of {}"`):
        The text that stands for a label where its embedding is computed from one, with `{}` in the label's place.
    label_gates (`bool`, defaults to `True`):
        Whether attention between labels and features passes gates, which start closed (paper, section 4.2); of
        `"label"` and `"divided"` attention.
    label_hierarchy (`dict[str, str]`, *optional*):
        Label to its parent. Parents may have parents, and need not be labels of the model.

    Example:

    ```python
    >>> from fal_hf import FALConfig, FALModel

    >>> model = FALModel(FALConfig.from_preset("fal-small", num_frames=16))
    ```"""

    model_type = "fal"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    patch_layout: str = "uniform"
    patch_share: float | int = 0.5
    patch_threshold: float | int | None = None
    num_channels: int = 3
    num_frames: int = 8
    attention_type: str = "divided_space_time"
    attention_order: str = "time_space"
    position_embedding_type: str = "space_time"
    cls_in_temporal_attention: bool = True
    norm_layout: str = "vit"
    classifier_type: str = "linear"
    classifier_hidden_size: int | None = None
    temperature: float | int = 1.0
    label_attention: str = "none"
    label_integration_layer: int = 8
    label_embedding_size: int = 768
    label_prompt: str = "a video of {}"
    label_gates: bool = True
    label_hierarchy: dict[str, str] | None = None

    @property
    def grid_size(self) -> tuple[int, int, int]:
        """Patches of a clip of the configured size: (frames, rows, columns)."""
        height, width = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        return self.num_frames, height // self.patch_size, width // self.patch_size

    @property
    def adaptive_patches(self) -> AdaptivePatches | None:
        """The adaptive or static layout, None for the uniform one."""
        if self.patch_layout == "uniform":
            return None
        if self.patch_layout == "static":
            return AdaptivePatches(static_threshold=self.patch_threshold)
        if self.patch_threshold is not None:
            return AdaptivePatches(threshold=self.patch_threshold)
        return AdaptivePatches(share=self.patch_share)

    @property
    def label_space(self) -> LabelSpace:
        """The labels and those above them."""
        labels = cast(dict[int, str], self.id2label)
        return LabelSpace.of([labels[number] for number in sorted(labels)], self.label_hierarchy)

    @classmethod
    def from_preset(cls, name: str, **overrides) -> "FALConfig":
        """
        The configuration of one of the paper's variants.

        Args:
            name: `"fal"` (8 x 224²), `"fal-hr"` (16 x 448²), `"fal-l"` (96 x 224²), `"fal-small"`, `"fal-base"` or
                `"fal-large"` (the widths of the Vision Transformers of those names).
            overrides: Any field of the configuration, for instance `patch_size=32` or `num_labels=400`.

        Raises:
            ValueError: for a name that is no preset.
        """
        if name not in PRESETS:
            raise ValueError(f"expected one of the presets {', '.join(PRESETS)}, got {name!r}")
        return cls(**{**PRESETS[name], **overrides})

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        Reads `config.json`. A TimeSformer configuration is a FAL configuration: same fields, same meaning.

        Raises:
            ValueError: if the configuration is of another kind of model.
        """
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type not in (cls.model_type, "timesformer"):
            raise ValueError(
                f"{pretrained_model_name_or_path}: expected the configuration of a FAL or TimeSformer model, "
                f"got model_type={model_type!r}; load it with the class of that model"
            )
        return config_dict | {"model_type": cls.model_type}, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As `PreTrainedConfig.from_dict`; a stored configuration without the entry has no CLS key in time."""
        if "model_type" in config_dict:
            config_dict = {"cls_in_temporal_attention": False, **config_dict}
        if __name__.startswith("fal_hf."):  # the package has the pipeline itself, and nobody need trust a copy
            config_dict = {name: value for name, value in config_dict.items() if name != "custom_pipelines"}
        return super().from_dict(config_dict, **kwargs)

    def validate_architecture(self):
        """Rejects values that contradict one another, at construction, on save and on load."""
        self._require_choice("attention_type", ATTENTION_TYPES)
        self._require_choice("attention_order", ATTENTION_ORDERS)
        self._require_choice("position_embedding_type", POSITION_EMBEDDING_TYPES)
        if self.attention_order != "time_space" and self.attention_type != "divided_space_time":
            raise ValueError(
                f"attention_order={self.attention_order!r} is a choice of divided_space_time attention only, "
                f"got attention_type={self.attention_type!r}; leave attention_order at 'time_space'"
            )
        self._require_patches()
        self._require_choice("hidden_act", tuple(ACT2FN))
        self._require_choice("norm_layout", NORM_LAYOUTS)
        self._require_choice("classifier_type", CLASSIFIER_TYPES)
        if self.classifier_type == "similarity" and self.classifier_hidden_size is not None:
            raise ValueError(
                f"classifier_hidden_size={self.classifier_hidden_size} is a choice of a linear head only, got "
                "classifier_type='similarity'; leave classifier_hidden_size at None"
            )
        self._require_sizes()
        self._require_label_space()
        for field in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"expected 0 <= {field} <= 1, got {getattr(self, field)}")
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"expected 0 <= drop_path_rate < 1, got {self.drop_path_rate}")
        if not 0 < self.initializer_range < float("inf"):
            raise ValueError(f"expected a finite initializer_range above 0, got {self.initializer_range}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"expected a finite temperature above 0, got {self.temperature}")
        if not SMALLEST_FLOAT32 <= self.layer_norm_eps < float("inf"):
            raise ValueError(
                f"expected a finite layer_norm_eps of at least {SMALLEST_FLOAT32:.3g}, got {self.layer_norm_eps}"
            )

    def _require_label_space(self):
        self._require_choice("label_attention", LABEL_ATTENTIONS)
        check_prompt(self.label_prompt)
        last = self.num_hidden_layers - 1
        if self.label_attention != "none" and not 0 <= self.label_integration_layer <= last:
            raise ValueError(
                f"expected a label_integration_layer in [0, {last}] with label_attention={self.label_attention!r}, so "
                f"that of num_hidden_layers={self.num_hidden_layers} one at least is left for the labels, got "
                f"{self.label_integration_layer}"
            )
        if self.label_hierarchy is not None:
            try:
                _ = self.label_space
            except ValueError as error:
                raise ValueError(f"label_hierarchy: {error}") from error
        if self.label_attention != "none":
            self.label_space.check_tokens()

    def _require_choice(self, field: str, choices: tuple[str, ...]):
        if getattr(self, field) not in choices:
            raise ValueError(f"expected {field} to be one of {', '.join(choices)}; got {getattr(self, field)!r}")

    def _require_patches(self):
        self._require_choice("patch_layout", PATCH_LAYOUTS)
        for field, option in (("patch_share", "share"), ("patch_threshold", "threshold")):
            if (value := getattr(self, field)) is not None:
                try:
                    AdaptivePatches(**{option: value})
                except ValueError as error:
                    raise ValueError(f"{field}: {error}") from error
        if self.patch_layout == "static" and self.patch_threshold is None:
            raise ValueError(
                "patch_threshold: expected one with patch_layout='static', got None; give 0.1 for example"
            )
        if self.adaptive_patches is not None:
            check_scheme(self.adaptive_patches, self.attention_type)

    def _require_sizes(self):
        positive = (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "patch_size",
            "num_channels",
            "num_frames",
            "num_labels",
            "label_embedding_size",
        )
        for field in positive:
            if getattr(self, field) < 1:
                raise ValueError(f"expected {field} >= 1, got {getattr(self, field)}")
        if self.num_hidden_layers > MOST_LAYERS:
            raise ValueError(f"expected num_hidden_layers <= {MOST_LAYERS}, got {self.num_hidden_layers}")
        if self.classifier_hidden_size is not None and self.classifier_hidden_size < 1:
            raise ValueError(f"expected classifier_hidden_size >= 1 or None, got {self.classifier_hidden_size}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"expected num_attention_heads to divide hidden_size, got {self.num_attention_heads} heads "
                f"for a hidden size of {self.hidden_size}"
            )
        sides = [self.image_size] * 2 if isinstance(self.image_size, int) else list(self.image_size)
        if len(sides) != 2 or any(side < 1 or side % self.patch_size for side in sides):
            raise ValueError(
                f"expected image_size to be one side or [height, width] that patch_size={self.patch_size} divides, "
                f"got {self.image_size}"
            )


__all__ = ["PRESETS", "FALConfig"]
