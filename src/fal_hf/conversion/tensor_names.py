"""
The layouts of foreign checkpoints: how each names its tensors, which of them become FAL's, and what FAL cannot
represent, by its name.

All layouts are brought to the names of transformers' TimeSformer first, which `TIMESFORMER_MAPPING` brings to FAL's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    CLIPModel,
    CLIPVisionModel,
    PreTrainedModel,
    TimesformerForVideoClassification,
    TimesformerModel,
    ViTForImageClassification,
    ViTModel,
)
from transformers.core_model_loading import WeightRenaming

from ..model.attention_schemes import MAIN_STEP
from ..model.modeling_fal import FALModel, FALVideoClassifierForVideoClassification
from .checkpoint_files import POSITION_NUMBERS
from .errors import ConversionError

Tensors = dict[str, torch.Tensor]

POSITION_TABLE, TIME_TABLE = "fal.embeddings.position_embeddings", "fal.embeddings.time_embeddings"
LABEL_TABLE = "fal.label_embeddings.embeddings.weight"
PATCH_KERNEL, PATCH_BIAS = (f"fal.embeddings.patch_embeddings.projection.{name}" for name in ("weight", "bias"))
HEAD_PREFIX = "classifier."
LOGIT_BIAS = f"{HEAD_PREFIX}logit_bias"

FAL_RENAMINGS = [WeightRenaming(r"^((label_)?(embeddings|layers)|layernorm)\.", r"fal.\1.")]

TIMESFORMER_RENAMINGS = [WeightRenaming(r"^(embeddings|encoder|layernorm)\.", r"timesformer.\1.")]

# As transformers saves them, and under the names of its classes.
VIT_RENAMINGS = [
    WeightRenaming(r"^vit\.", "timesformer."),
    WeightRenaming(r"^(embeddings|encoder|layers|layernorm)\.", r"timesformer.\1."),
    WeightRenaming(r"^timesformer\.layers\.", "timesformer.encoder.layer."),
    WeightRenaming(r"\.attention\.q_proj\.", ".attention.attention.query."),
    WeightRenaming(r"\.attention\.k_proj\.", ".attention.attention.key."),
    WeightRenaming(r"\.attention\.v_proj\.", ".attention.attention.value."),
    WeightRenaming(r"\.attention\.o_proj\.", ".attention.output.dense."),
    WeightRenaming(r"\.mlp\.fc1\.", ".intermediate.dense."),
    WeightRenaming(r"\.mlp\.fc2\.", ".output.dense."),
]

# The TimeSformer reference, and the image models whose names it took over: timm's, DeiT, DINO.
BLOCKS_RENAMINGS = [
    WeightRenaming(r"^module\.", ""),
    WeightRenaming(r"^(model|backbone)\.", ""),
    WeightRenaming(r"^cls_token", "timesformer.embeddings.cls_token"),
    WeightRenaming(r"^pos_embed", "timesformer.embeddings.position_embeddings"),
    WeightRenaming(r"^time_embed", "timesformer.embeddings.time_embeddings"),
    WeightRenaming(r"^patch_embed\.proj\.", "timesformer.embeddings.patch_embeddings.projection."),
    WeightRenaming(r"^blocks\.", "timesformer.encoder.layer."),
    WeightRenaming(r"^norm\.", "timesformer.layernorm."),
    WeightRenaming(r"^head\.", "classifier."),
    WeightRenaming(r"\.temporal_norm1\.", ".temporal_layernorm."),
    WeightRenaming(r"\.temporal_attn\.qkv\.", ".temporal_attention.attention.qkv."),
    WeightRenaming(r"\.temporal_attn\.proj\.", ".temporal_attention.output.dense."),
    WeightRenaming(r"\.temporal_fc\.", ".temporal_dense."),
    WeightRenaming(r"\.norm1\.", ".layernorm_before."),
    WeightRenaming(r"\.norm2\.", ".layernorm_after."),
    WeightRenaming(r"\.attn\.qkv\.", ".attention.attention.qkv."),
    WeightRenaming(r"\.attn\.proj\.", ".attention.output.dense."),
    WeightRenaming(r"\.mlp\.fc1\.", ".intermediate.dense."),
    WeightRenaming(r"\.mlp\.fc2\.", ".output.dense."),
]

VISION_PREFIX, TEXT_PREFIX = "vision_model.", "text_model."
TEXT_PROJECTION = "text_projection.weight"
# What compares images with texts.
COMPARING = ("visual_projection.", "logit_")
# The axes that FAL's tensors have beyond those of a CLIP's.
NEW_AXES = {"embeddings.class_embedding": (None, None), "embeddings.position_embedding.weight": (None,)}

# The spelling of `pre_layrnorm` is that of the checkpoints. A vision tower by itself is saved without its prefix, too.
CLIP_RENAMINGS = [
    WeightRenaming(rf"^{re.escape(VISION_PREFIX)}", ""),
    WeightRenaming(r"^embeddings\.class_embedding$", "timesformer.embeddings.cls_token"),
    WeightRenaming(r"^embeddings\.position_embedding\.weight$", "timesformer.embeddings.position_embeddings"),
    WeightRenaming(r"^embeddings\.patch_embedding\.", "timesformer.embeddings.patch_embeddings.projection."),
    WeightRenaming(r"^pre_layrnorm\.", "timesformer.embeddings.layernorm."),
    WeightRenaming(r"^post_layernorm\.", "timesformer.layernorm."),
    WeightRenaming(r"^encoder\.layers\.", "timesformer.encoder.layer."),
    WeightRenaming(r"^visual_projection\.", "classifier.projection."),
    WeightRenaming(r"^logit_", "classifier.logit_"),
    WeightRenaming(r"\.self_attn\.q_proj\.", ".attention.attention.query."),
    WeightRenaming(r"\.self_attn\.k_proj\.", ".attention.attention.key."),
    WeightRenaming(r"\.self_attn\.v_proj\.", ".attention.attention.value."),
    WeightRenaming(r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    WeightRenaming(r"\.layer_norm1\.", ".layernorm_before."),
    WeightRenaming(r"\.layer_norm2\.", ".layernorm_after."),
    WeightRenaming(r"\.mlp\.fc1\.", ".intermediate.dense."),
    WeightRenaming(r"\.mlp\.fc2\.", ".output.dense."),
]


def take_all(tensors: Tensors) -> tuple[Tensors, dict[str, str]]:
    """All tensors, and none that is left out."""
    return tensors, {}


def text_tensors(tensors: Tensors) -> Tensors:
    """Those of a CLIP's text tower with its projection."""
    names = [name for name in tensors if name.startswith(TEXT_PREFIX) or name == TEXT_PROJECTION]
    return {name: tensors[name] for name in names if not POSITION_NUMBERS.search(name)}


def vision_tensors(tensors: Tensors) -> Tensors:
    """Those of a CLIP's vision tower without its projection, under the names that it has by itself."""
    others = {name for name in tensors if name.startswith(COMPARING)} | text_tensors(tensors).keys()
    return {name.removeprefix(VISION_PREFIX): tensors[name] for name in tensors if name not in others}


def take_vision(tensors: Tensors) -> tuple[Tensors, dict[str, str]]:
    """
    The tensors of a CLIP's vision tower; with them the projection and the scale where there is a text tower, else the
    reason why these are left out.

    Raises:
        ConversionError: for a classifier of images, which takes the mean of the patches.
    """
    head = next((name for name in tensors if name.startswith(HEAD_PREFIX)), None)
    if head is not None:
        raise ConversionError(
            f"{head}: a head on the mean of the patches, which FAL cannot represent; save the model's vision_model by "
            "itself and convert that"
        )
    texts, left_out = text_tensors(tensors), {}
    if not texts:
        reason = "there are no texts whose embeddings an image's is compared with"
        left_out = {name: reason for name in tensors if name.startswith(COMPARING)}
    kept = [name for name in tensors if name not in texts and name not in left_out]
    axes = {name: NEW_AXES.get(name.removeprefix(VISION_PREFIX), ...) for name in kept}
    return {name: tensors[name][new] for name, new in axes.items()}, left_out


@dataclass(frozen=True)
class Layout:
    """
    A way of naming weights.

    Args:
        name: What people call it.
        marker: Pattern of a name that a checkpoint of this layout has, and of the others none.
        renamings: To the names of transformers' TimeSformer, with query, key and value apart or joined; or to FAL's.
        model_types: What `model_type` of its `config.json` may be.
        classes: The class that computes the source's logits, and the one for a source without a head.
        is_own: Whether these classes read the layout itself, and not only the renamed tensors.
        is_of_images: Whether its models are of images, which are inflated.
        represents: Reasons of `REFUSED` that are none in this layout.
        absent: FAL's names of tensors that no model of the layout has.
        needs_config: Whether there has to be a `config.json`, for want of what published models agree on.
        take: The tensors that become FAL's, with FAL's axes, and the names of those left out with the reason.
    """

    name: str
    marker: str
    renamings: list[WeightRenaming]
    model_types: tuple[str, ...]
    classes: tuple[type[PreTrainedModel], type[PreTrainedModel]]
    is_own: bool = True
    is_of_images: bool = False
    represents: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    needs_config: bool = False
    take: Callable[[Tensors], tuple[Tensors, dict[str, str]]] = take_all


TIMESFORMER_CLASSES = (TimesformerForVideoClassification, TimesformerModel)
TIMESFORMER_REFERENCE = Layout(
    "TimeSformer reference",
    r"blocks\.0\.temporal_attn\.qkv\.|(^|\.)time_embed$",
    BLOCKS_RENAMINGS,
    (),
    TIMESFORMER_CLASSES,
    is_own=False,
)
TIMM_VIT = Layout(
    "timm ViT",
    r"blocks\.0\.attn\.qkv\.",
    BLOCKS_RENAMINGS,
    (),
    TIMESFORMER_CLASSES,
    is_own=False,
    is_of_images=True,
)
FIRST_NORM = "a norm before the first block"
TRANSFORMERS_CLIP = Layout(
    "transformers CLIP",
    r"(^|\bvision_model\.)encoder\.layers?\.0\.self_attn\.q_proj\.",
    CLIP_RENAMINGS,
    ("clip", "clip_vision_model"),
    (CLIPModel, CLIPVisionModel),
    is_of_images=True,
    represents=(FIRST_NORM,),
    absent=(PATCH_BIAS, LOGIT_BIAS, LABEL_TABLE),
    needs_config=True,
    take=take_vision,
)
LAYOUTS = (
    Layout(
        "FAL",
        rf"(^|\.)layers\.0\.steps\.{MAIN_STEP}\.",
        FAL_RENAMINGS,
        ("fal",),
        (FALVideoClassifierForVideoClassification, FALModel),
    ),
    Layout(
        "transformers TimeSformer",
        r"encoder\.layer\.0\.attention\.attention\.qkv\.",
        TIMESFORMER_RENAMINGS,
        ("timesformer", "fal"),
        TIMESFORMER_CLASSES,
    ),
    Layout(
        "transformers ViT",
        r"(encoder\.layer\.0\.attention\.attention\.query|layers\.0\.attention\.q_proj)\.",
        VIT_RENAMINGS,
        ("vit",),
        (ViTForImageClassification, ViTModel),
        is_of_images=True,
    ),
    TRANSFORMERS_CLIP,
    TIMESFORMER_REFERENCE,
    TIMM_VIT,
)

# A space-only TimeSformer of the reference has the tensors of an image model. What tells it apart is how the
# reference's training stores them: under this name, as part of a module of this name.
REFERENCE_WRAPPER, REFERENCE_PREFIX = "model_state", re.compile(r"^(module\.)?model\.")

# What FAL cannot represent, by the names of its tensors.
REFUSED = {
    r"dist_token|distillation_token|head_dist|distillation_classifier": "a distillation token",
    r"norm_pre\.|pre_?lay(er|r)_?norm|ln_pre\.": FIRST_NORM,
    r"(^|[._])ls[12]\.|layer_?scale|lambda_?[12]|(^|\.)gamma(_[12])?$": "layer scale",
    r"rope|rotary|freqs_cis|inv_freq": "rotary positions",
    r"rel(ative)?_pos": "relative positions",
    r"reg_token|register_token": "register tokens",
    r"[._](q|k|query|key)_norm|q_layernorm|k_layernorm": "norms of queries and keys",
    r"(attn|mlp)\.(norm|ffn_layernorm|inner_attn_ln)\.": "norms within attention or MLP",
    r"fc_norm\.|attn_pool|map_head|(^|\.)head\.probe$": "pooling of the patches instead of the CLS token",
    r"pre_logits": "a representation layer before the head",
    r"mlp\.(gate|w12|w3|fc1_g|weights_in)|swiglu": "a gated MLP",
    r"lora_|\.adapter": "an adapter that is not merged into the weights",
}
OPEN_CLIP_NAME = re.compile(r"(^|\.)resblocks\.0\.")

# What no result of FAL depends on.
LEFT_OUT = {
    r"(^|\.)pooler\.": "the pooler, which comes after the CLS embedding",
    r"(^|\.)mask_token$": "the token of masked pre-training",
    POSITION_NUMBERS.pattern: "the numbers from 0 on",
    r"^decoder\.": "the decoder of masked pre-training",
    r"(^|\.)head\.(mlp|last_layer)\.": "the projection head of self-supervised training",
}


__all__ = [
    "HEAD_PREFIX",
    "LABEL_TABLE",
    "LAYOUTS",
    "LEFT_OUT",
    "LOGIT_BIAS",
    "OPEN_CLIP_NAME",
    "PATCH_BIAS",
    "PATCH_KERNEL",
    "POSITION_TABLE",
    "REFERENCE_PREFIX",
    "REFERENCE_WRAPPER",
    "REFUSED",
    "TEXT_PREFIX",
    "TEXT_PROJECTION",
    "TIMESFORMER_REFERENCE",
    "TIME_TABLE",
    "TIMM_VIT",
    "TRANSFORMERS_CLIP",
    "Layout",
    "Tensors",
    "text_tensors",
    "vision_tensors",
]
