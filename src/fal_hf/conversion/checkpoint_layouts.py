"""
What a foreign checkpoint is: recognized by the names of its tensors, brought to FAL's, with sizes from the tensors.
Every tensor is used or listed as left out; what a configuration says beside the tensors must agree with them.
"""

import re
from dataclasses import dataclass
from math import isqrt
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from transformers import (
    CLIPConfig,
    CLIPVisionConfig,
    PreTrainedConfig,
    ViTConfig,
)
from transformers.activations import ACT2FN
from transformers.core_model_loading import apply_renamings
from transformers.image_utils import PILImageResampling
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME
from transformers.utils.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from ..model.attention_schemes import ATTENTION_SCHEMES, MAIN_STEP
from ..model.configuration_fal import FALConfig
from ..model.frames import PixelDefaults
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from ..model.timesformer_names import TIMESFORMER_MAPPING
from .checkpoint_files import OPEN_CLIP_ADVICE, find_checkpoint, find_weights, read_json, read_weights
from .errors import ConversionError
from .options import ConversionOptions, Preprocessing
from .tensor_names import (
    LABEL_TABLE,
    LAYOUTS,
    LEFT_OUT,
    OPEN_CLIP_NAME,
    PATCH_KERNEL,
    POSITION_TABLE,
    REFERENCE_PREFIX,
    REFERENCE_WRAPPER,
    REFUSED,
    TIME_TABLE,
    TIMESFORMER_REFERENCE,
    TIMM_VIT,
    TRANSFORMERS_CLIP,
    Layout,
    Tensors,
)

Config = TypeVar("Config", bound=PreTrainedConfig)

# Of all that a model is, tensors do not tell the heads. Those of published Vision Transformers have so many channels,
# but for some by their width: SoViT-400m, ViT-H, ViT-g and ViT-G.
HEAD_CHANNELS = 64
HEADS_BY_WIDTH = {1152: 16, 1280: 16, 1408: 16, 1664: 16}

# Preprocessing by family, for a source that does not come with its own.
PREPROCESSING: dict[Preprocessing, dict[str, Any]] = {
    "timesformer": {
        "image_mean": list(PixelDefaults.image_mean),
        "image_std": list(PixelDefaults.image_std),
        "resample": PILImageResampling.BILINEAR,
    },
    "imagenet": {
        "image_mean": IMAGENET_DEFAULT_MEAN,
        "image_std": IMAGENET_DEFAULT_STD,
        "resample": PILImageResampling.BICUBIC,
    },
    "vit": {
        "image_mean": IMAGENET_STANDARD_MEAN,
        "image_std": IMAGENET_STANDARD_STD,
        "resample": PILImageResampling.BILINEAR,
    },
    "clip": {
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
        "resample": PILImageResampling.BICUBIC,
    },
}
# Settings of a stored processor that are kept; the rest belongs to a call or to another class.
PROCESSOR_SETTINGS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_flip_channel_order",
    "fps",
    "frame_stride",
    "frame_interval_seconds",
    "start_seconds",
    "num_clips",
    "short_clip",
)

# Fields of a configuration that tensors do not tell.
DECLARED_ONLY = (
    "num_attention_heads",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "drop_path_rate",
    "initializer_range",
    "layer_norm_eps",
    "attention_order",
    "patch_layout",
    "patch_share",
    "patch_threshold",
    "cls_in_temporal_attention",
    "classifier_type",
    "classifier_hidden_size",
    "temperature",
    "problem_type",
    "label_attention",
    "label_integration_layer",
    "label_embedding_size",
    "label_prompt",
    "label_gates",
    "label_hierarchy",
)
# The configuration of each `model_type` beside FAL's and TimeSformer's, which FAL's own class reads.
CONFIG_CLASSES: dict[str, type[PreTrainedConfig]] = {
    "vit": ViTConfig,
    "clip": CLIPConfig,
    "clip_vision_model": CLIPVisionConfig,
}
QKV = re.compile(r"\.(query|key|value)\.(weight|bias)$")


# ---- reading a source ----


@dataclass(frozen=True)
class Source:
    """
    A checkpoint as it was found, under FAL's names.

    Args:
        path: Its file or folder.
        name: What people know it by: a Hub id, or the last part of a path. `hub_id` is None for the latter.
        layout: How its tensors were named.
        config: The FAL configuration of what it computes; an image model is a space-only one.
        tensors: FAL's name to tensor; the kernel of the patches is flat.
        native: The tensors as the layout's own classes read them.
        left_out: Name of a tensor that is not converted to the reason.
        declared: Fields of `config` that the source's own configuration says.
        assumes_heads: Whether the number of heads is that of published models of its width; nothing says it.
        preprocessing: Settings of the processor, and `preprocessing_origin`, who says so.
    """

    path: Path
    name: str
    hub_id: str | None
    layout: Layout
    config: FALConfig
    tensors: Tensors
    native: Tensors
    left_out: dict[str, str]
    declared: dict[str, Any]
    assumes_heads: bool
    preprocessing: dict[str, Any]
    preprocessing_origin: str

    @property
    def folder(self) -> Path:
        """Where the files beside the weights are."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def is_image_model(self) -> bool:
        """Whether frames do not see one another."""
        return ATTENTION_SCHEMES[self.config.attention_type].frames_apart

    @property
    def heads(self) -> str:
        """The attention heads, for people: their number, and on what assumption."""
        heads = self.config.num_attention_heads
        assumption = f" (assumed: {self.config.hidden_size // heads} channels each)" if self.assumes_heads else ""
        return f"{heads} heads{assumption}"

    @property
    def has_head(self) -> bool:
        return any(name.startswith("classifier.") for name in self.tensors)


def read_source(source: str | PathLike, options: ConversionOptions | None = None) -> Source:
    """
    Reads a checkpoint and recognizes it by its contents.

    Args:
        source: A file, a folder or a Hub id.
        options: Those that say what the source leaves open: `revision`, `num_attention_heads`, `preprocessing`, and
            `attention_type`, which tells a space-only TimeSformer from an image model where the tensors do not.

    Raises:
        ConversionError: for a file that is damaged or hostile, a layout that is none of `LAYOUTS`, what FAL cannot
            represent, and sizes that contradict one another.
    """
    options = options or ConversionOptions()
    path = find_checkpoint(source, revision=options.revision)
    weights = find_weights(path)
    raw, others = read_weights(weights)
    layout = recognize(weights, raw, others, options.attention_type)
    folder = path if path.is_dir() else path.parent
    declared, where = read_declared(folder / CONFIG_NAME, layout, others)
    kept, left_out = leave_out(weights, raw, layout)
    canonical = fuse_qkv(rename(weights, kept, layout.renamings), where=weights)
    tensors = rename(weights, canonical, TIMESFORMER_MAPPING)
    config = find_config(weights, tensors, declared, where=where, num_attention_heads=options.num_attention_heads)
    tensors[PATCH_KERNEL] = tensors[PATCH_KERNEL].flatten(1)
    _require_all(weights, tensors, config, layout)
    preprocessing, origin = find_preprocessing(folder, layout, others, tensors, options.preprocessing)
    is_local = Path(source).exists()
    return Source(
        path=path,
        name=Path(source).name if is_local else str(source),
        hub_id=None if is_local else str(source),
        layout=layout,
        config=config,
        tensors=tensors,
        native=raw if layout.is_own else canonical,
        left_out=left_out,
        declared=declared,
        assumes_heads="num_attention_heads" not in declared and options.num_attention_heads is None,
        preprocessing=preprocessing,
        preprocessing_origin=origin,
    )


def recognize(path: Path, tensors: Tensors, others: dict[str, Any], attention_type: str | None) -> Layout:
    """The layout of tensors, by their names and wrapper; what FAL cannot represent is refused by its name."""
    found = (layout for layout in LAYOUTS if any(re.search(layout.marker, name) for name in tensors))
    layout = next(found, None)
    _refuse(path, tensors, layout)
    if layout is None:
        names = ", ".join(sorted(tensors)[:3])
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise ConversionError(f"{path}: expected the names of one of {known}; got {names}, ...")
    is_reference = layout is TIMM_VIT and _is_of_reference(path, tensors, others, attention_type)
    return TIMESFORMER_REFERENCE if is_reference else layout


def _refuse(path: Path, tensors: Tensors, layout: Layout | None) -> None:
    """Refuses what FAL cannot represent in a layout, and a layout that it does not read."""
    if any(OPEN_CLIP_NAME.search(name) for name in tensors):
        raise ConversionError(f"{path}: {OPEN_CLIP_ADVICE}")
    for pattern, what in REFUSED.items():
        name = next((name for name in tensors if re.search(pattern, name)), None)
        if name is not None and (layout is None or what not in layout.represents):
            raise ConversionError(f"{path}: {name}: {what}, which FAL cannot represent")


def _is_of_reference(path: Path, tensors: Tensors, others: dict[str, Any], attention_type: str | None) -> bool:
    """Whether tensors that could be an image model's are a space-only TimeSformer of the reference."""
    if "TIMESFORMER" in _parse_reference_cfg(others.get("cfg")):
        return True
    has_wrapper = others.get("state_dict_name") == REFERENCE_WRAPPER
    has_prefix = any(REFERENCE_PREFIX.match(name) for name in tensors)
    if has_wrapper == has_prefix:
        return has_wrapper
    if attention_type is None:
        raise ConversionError(
            f"{path}: expected a space-only TimeSformer as its reference stores one ({REFERENCE_WRAPPER!r} with names "
            "that begin with 'model.') or a bare image ViT, whose tensors have the same names, and got what could be "
            "either; give --attention-type: space_only for the TimeSformer, another one to inflate the image ViT"
        )
    return attention_type == "space_only"


def leave_out(path: Path, tensors: Tensors, layout: Layout) -> tuple[Tensors, dict[str, str]]:
    """The tensors that become FAL's, and the names of those that do not matter with the reason."""
    left_out = {name: reason for name in tensors for pattern, reason in LEFT_OUT.items() if re.search(pattern, name)}
    try:
        kept, others = layout.take({name: tensor for name, tensor in tensors.items() if name not in left_out})
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error
    return kept, left_out | others


def rename(path: Path, tensors: Tensors, renamings: list) -> Tensors:
    """Tensors under new names; two that come to the same name are refused."""
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        new_name = apply_renamings(name, renamings)
        if new_name in renamed:
            raise ConversionError(f"{path}: {name}: another tensor takes its place, {new_name}")
        renamed[new_name] = tensor
    return renamed


def fuse_qkv(tensors: Tensors, *, where: Path) -> Tensors:
    """Query, key and value of each attention as the one tensor that FAL and TimeSformer have."""
    fused = {name: tensor for name, tensor in tensors.items() if not QKV.search(name)}
    for name in dict.fromkeys(QKV.sub(r".{}.\2", name) for name in tensors if QKV.search(name)):
        found = (tensors.get(name.format(part)) for part in ("query", "key", "value"))
        parts = [part for part in found if part is not None and part.ndim > 0]
        if len(parts) < 3 or len({part.shape[1:] for part in parts}) > 1:
            raise ConversionError(f"{where}: {name.format('*')}: expected query, key and value of one width")
        fused[name.format("qkv")] = torch.cat(parts)
    return fused


# ---- sizes ----


def read_declared(path: Path, layout: Layout, others: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Fields of FAL's configuration that the source's own one says, and where it says so."""
    if not layout.is_own and isinstance(others.get("cfg"), str):
        return _declared_by_reference(others["cfg"]), "the checkpoint's cfg"
    if not path.is_file():
        if layout.needs_config:
            raise ConversionError(
                f"{path}: expected the configuration of a {layout.name} beside its weights, which do not tell "
                "activation and attention heads, got none"
            )
        return {}, "the options"
    stored = read_json(path)
    if "model_type" not in stored and "architecture" in stored and not layout.needs_config:
        return _declared_by_timm(path, stored), str(path)
    model_type = stored.get("model_type")
    if model_type not in layout.model_types:
        expected = " or ".join(layout.model_types) or "none"
        raise ConversionError(
            f"{path}: expected model_type {expected} beside weights of the layout {layout.name}, got {model_type!r}"
        )
    config = parse_config(path, stored, CONFIG_CLASSES.get(model_type, FALConfig))
    vision: Any = config.vision_config if isinstance(config, CLIPConfig) else config
    declared = {name: getattr(vision, name) for name in FALConfig.__annotations__ if hasattr(vision, name)}
    if layout is TRANSFORMERS_CLIP:
        declared |= {"norm_layout": "clip", "attention_probs_dropout_prob": vision.attention_dropout or 0.0}
    if isinstance(config, CLIPConfig):
        declared["label_embedding_size"] = config.projection_dim
    elif stored.keys() & {"id2label", "num_labels"}:
        declared |= {"num_labels": config.num_labels, "id2label": config.id2label}
    sides = {name: as_side(declared[name]) for name in ("image_size", "patch_size") if name in declared}
    return declared | {"problem_type": config.problem_type} | sides, str(path)


def parse_config(path: Path, stored: dict[str, Any], config_class: type[Config]) -> Config:
    """A configuration of what a `config.json` holds; a ConversionError where that cannot be."""
    try:
        return config_class.from_dict(stored | {"model_type": config_class.model_type})
    except Exception as error:  # the checks of configurations raise errors of several libraries
        raise ConversionError(f"{path}: {' '.join(str(error).split())}") from error


def _declared_by_timm(path: Path, stored: dict[str, Any]) -> dict[str, Any]:
    pooling = stored.get("global_pool") or "token"
    if pooling != "token":
        raise ConversionError(f"{path}: global_pool {pooling!r}: pooling of the patches, which FAL cannot represent")
    settings = _object(stored, "pretrained_cfg")
    size = settings.get("input_size")
    declared = {
        "hidden_size": stored.get("num_features"),
        "num_labels": stored.get("num_classes") or None,
        "image_size": as_side(size[1:]) if isinstance(size, list) and len(size) == 3 else None,
    }
    names = settings.get("label_names")
    if isinstance(names, list) and len(names) == declared["num_labels"]:
        declared["id2label"] = dict(enumerate(names))
    return {name: value for name, value in declared.items() if value is not None}


def _declared_by_reference(text: str) -> dict[str, Any]:
    cfg = _parse_reference_cfg(text)
    declared = {
        "attention_type": _object(cfg, "TIMESFORMER").get("ATTENTION_TYPE"),
        "num_frames": _object(cfg, "DATA").get("NUM_FRAMES"),
        "image_size": _object(cfg, "DATA").get("TRAIN_CROP_SIZE"),
        "num_labels": _object(cfg, "MODEL").get("NUM_CLASSES"),
    }
    return {name: value for name, value in declared.items() if value is not None}


def _parse_reference_cfg(text: Any) -> dict[str, Any]:
    """The reference stores its options as YAML; what is not there or cannot be read says nothing."""
    if not isinstance(text, str):
        return {}
    try:
        cfg = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return cfg if isinstance(cfg, dict) else {}


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def as_side(size: Any) -> Any:
    """`[224, 224]` as 224; another size as a list."""
    if not isinstance(size, list | tuple):
        return size
    return size[0] if len(set(size)) == 1 else list(size)


def find_config(
    path: Path, tensors: Tensors, declared: dict[str, Any], *, where: str, num_attention_heads: int | None
) -> FALConfig:
    """The configuration that tensors and what is declared beside them agree on."""
    if num_attention_heads is not None:
        require_agreement(where, declared, {"num_attention_heads": num_attention_heads}, by="the option")
    measured = measure(path, tensors, declared)
    require_agreement(where, declared, measured, by="the weights")
    settings = {name: declared[name] for name in DECLARED_ONLY if name in declared} | measured
    settings.setdefault("cls_in_temporal_attention", False)  # as in every published TimeSformer
    if "num_attention_heads" not in settings:
        settings["num_attention_heads"] = num_attention_heads or _assume_heads(path, measured["hidden_size"])
    has_labels = "num_labels" in measured or LABEL_TABLE in tensors
    if has_labels and "id2label" in declared:
        settings["id2label"] = declared["id2label"]
    else:
        settings.pop("label_hierarchy", None)
    return make_config(path, settings)


def _assume_heads(path: Path, width: int) -> int:
    """The heads of published models of a width."""
    if width not in HEADS_BY_WIDTH and width % HEAD_CHANNELS:
        raise ConversionError(
            f"{path}: expected a {CONFIG_NAME} that tells the attention heads, or a width of which each has "
            f"{HEAD_CHANNELS} channels, got the width {width}; give --num-attention-heads"
        )
    return HEADS_BY_WIDTH.get(width) or width // HEAD_CHANNELS


def measure(path: Path, tensors: Tensors, declared: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that tensors tell; the patch kernel is yet a convolution's."""
    steps = set(re.findall(r"\.layers\.\d+\.steps\.(\w+)\.", " ".join(tensors)))
    blocks = {
        "hidden_size": shape_of(path, tensors, "fal.embeddings.cls_token", 3)[-1],
        "num_hidden_layers": _count_layers(path, tensors, of_labels=declared.get("label_attention") == "label"),
        "intermediate_size": shape_of(path, tensors, "fal.layers.0.mlp.fc1.weight", 2)[0],
        "qkv_bias": f"fal.layers.0.steps.{MAIN_STEP}.attention.qkv.bias" in tensors,
        "attention_type": _find_scheme(path, steps, TIME_TABLE in tensors, declared),
        "norm_layout": "clip" if "fal.embeddings.layernorm.weight" in tensors else "vit",
    }
    patches = _measure_patches(path, tensors, declared)
    tables = _measure_tables(path, tensors, declared, patch_size=patches["patch_size"])
    kind = _find_tables(path, blocks["attention_type"], tensors, declared)
    return blocks | patches | tables | _measure_head(path, tensors) | {"position_embedding_type": kind}


def shape_of(path: Path, tensors: Tensors, name: str, axes: int) -> torch.Size:
    """The shape of a tensor that has to be there, with so many axes."""
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != axes:
        got = "none" if tensor is None else f"the shape {tuple(tensor.shape)}"
        raise ConversionError(f"{path}: {name}: expected a tensor of {axes} axes, got {got}")
    return tensor.shape


def _measure_tables(path: Path, tensors: Tensors, declared: dict[str, Any], *, patch_size: int) -> dict[str, Any]:
    sizes = {name: declared.get(name, getattr(FALConfig, name)) for name in ("image_size", "num_frames")}
    if POSITION_TABLE in tensors:
        num_patches = shape_of(path, tensors, POSITION_TABLE, 3)[1] - 1
        sizes["image_size"] = _measure_image(path, num_patches, patch_size, declared)
    if TIME_TABLE in tensors:
        sizes["num_frames"] = shape_of(path, tensors, TIME_TABLE, 3)[1]
    return sizes


def _measure_head(path: Path, tensors: Tensors) -> dict[str, Any]:
    """Of a head that is a Linear, an MLP, the similarity to labels' embeddings, or not there."""
    if "classifier.projection.weight" in tensors:
        size = shape_of(path, tensors, "classifier.projection.weight", 2)[0]
        return {"classifier_type": "similarity", "label_embedding_size": size, "classifier_hidden_size": None}
    linear = {"classifier_type": "linear"}
    if "classifier.weight" in tensors:
        num_labels = shape_of(path, tensors, "classifier.weight", 2)[0]
        return linear | {"num_labels": num_labels, "classifier_hidden_size": None}
    if "classifier.out_proj.weight" not in tensors:
        return {}
    num_labels, hidden_size = shape_of(path, tensors, "classifier.out_proj.weight", 2)
    return linear | {"num_labels": num_labels, "classifier_hidden_size": hidden_size}


def _find_tables(path: Path, scheme: str, tensors: Tensors, declared: dict[str, Any]) -> str:
    if POSITION_TABLE not in tensors:
        if declared.get("position_embedding_type") != "none":
            raise ConversionError(
                f"{path}: expected a position table; positions of another kind, computed ones for instance, cannot be "
                "represented"
            )
        return "none"
    if TIME_TABLE in tensors:
        return "space_time"
    # space-only attention has no use for a time table, whatever its configuration says of one
    return declared.get("position_embedding_type", "space_time") if scheme == "space_only" else "space_only"


def _count_layers(path: Path, tensors: Tensors, *, of_labels: bool) -> int:
    """The blocks of features; with label attention those behind them, of labels alone, count as well."""
    kinds = r"fal\.(?:label_)?layers" if of_labels else r"fal\.layers"
    found = {match[0] for name in tensors if (match := re.match(kinds + r"\.\d{1,6}(?=\.)", name))}
    numbers = [int(name.rpartition(".")[2]) for name in found if name.startswith("fal.layers.")]
    if sorted(numbers) != list(range(len(numbers))):
        raise ConversionError(f"{path}: expected blocks 0 to {len(numbers) - 1}, got {sorted(numbers)}")
    return len(found)


# The steps beyond the main one, where they tell a scheme.
SCHEMES_BY_STEPS = {
    frozenset(scheme.extra_steps): name for name, scheme in ATTENTION_SCHEMES.items() if scheme.extra_steps
}


def _find_scheme(path: Path, steps: set[str], has_times: bool, declared: dict[str, Any]) -> str:
    extra = frozenset(steps - {MAIN_STEP})
    if extra:
        if extra not in SCHEMES_BY_STEPS:
            raise ConversionError(f"{path}: expected the attention steps of a FAL scheme, got {', '.join(steps)}")
        return SCHEMES_BY_STEPS[extra]
    if has_times:
        return "joint_space_time"
    # without a time table the tensors of joint and of space-only attention are alike
    is_joint = declared.get("attention_type") == "joint_space_time"
    has_no_table = declared.get("position_embedding_type", "space_time") != "space_time"
    return "joint_space_time" if is_joint and has_no_table else "space_only"


def _measure_patches(path: Path, tensors: Tensors, declared: dict[str, Any]) -> dict[str, int]:
    kernel = tensors.get(PATCH_KERNEL)
    shape = () if kernel is None else tuple(kernel.shape)
    if len(shape) == 4 and shape[2] == shape[3]:
        return {"patch_size": shape[2], "num_channels": shape[1]}
    patch_size, num_channels = (declared.get(name) or 0 for name in ("patch_size", "num_channels"))
    if len(shape) == 2 and shape[1] == num_channels * patch_size**2:
        return {"patch_size": patch_size, "num_channels": num_channels}
    raise ConversionError(
        f"{path}: {PATCH_KERNEL}: expected the kernel of square patches, (width, channels, P, P), got {shape}; "
        "patches of several frames and patches that are not square cannot be represented"
    )


def _measure_image(path: Path, num_patches: int, patch_size: int, declared: dict[str, Any]) -> int | list[int]:
    """The image's size from the number of positions; the configuration says which of the sizes of that number."""
    size = declared.get("image_size")
    if size is not None:
        sides = size if isinstance(size, list | tuple) else [size, size]
        if [type(side) for side in sides] == [int, int]:
            rows, columns = (side // patch_size for side in sides)
            if rows * columns == num_patches:
                return as_side(list(sides))
    side = isqrt(max(num_patches, 0))
    if side == 0 or side**2 != num_patches:
        raise ConversionError(
            f"{path}: expected the position table of a CLS token and a square of patches or of the configuration's "
            f"image_size, got {num_patches + 1} positions with image_size={size}"
        )
    return side * patch_size


def require_agreement(where: str, declared: dict[str, Any], measured: dict[str, Any], *, by: str) -> None:
    for name, value in measured.items():
        if name in declared and declared[name] != value:
            raise ConversionError(
                f"{name}: {where} says {declared[name]!r}, {by} {value!r}; they belong to different models"
            )


def make_config(path: Path, settings: dict[str, Any]) -> FALConfig:
    """A configuration whose contradictions are a ConversionError; labels are `id2label`, or counted."""
    settings = dict(settings)
    if settings.get("hidden_act", FALConfig.hidden_act) not in ACT2FN:
        raise ConversionError(f"{path}: expected hidden_act to be a name of ACT2FN, got {settings['hidden_act']!r}")
    if "id2label" in settings:
        settings.pop("num_labels", None)
        settings["label2id"] = {name: index for index, name in settings["id2label"].items()}
    try:
        return FALConfig(**settings)
    except Exception as error:  # the checks of configurations raise errors of several libraries
        raise ConversionError(f"{path}: {' '.join(str(error).split())}") from error


def expected_shapes(config: FALConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of a classifier."""
    with torch.device("meta"):
        model = FALVideoClassifierForVideoClassification(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _require_all(path: Path, tensors: Tensors, config: FALConfig, layout: Layout) -> None:
    """
    Every tensor is one of the model's and has its shape, and the model is complete but for its head and for what the
    layout has not.
    """
    expected = {name: shape for name, shape in expected_shapes(config).items() if name not in layout.absent}
    for name, tensor in tensors.items():
        if name not in expected:
            raise ConversionError(f"{path}: {name} (FAL's name): expected no such tensor in this layout")
        if tuple(tensor.shape) != expected[name]:
            raise ConversionError(
                f"{path}: {name} (FAL's name): expected the shape {expected[name]}, got {tuple(tensor.shape)}"
            )
    has_head = any(name.startswith("classifier.") for name in tensors)
    missing = sorted(name for name in expected if name not in tensors and (has_head or name.startswith("fal.")))
    if missing:
        raise ConversionError(f"{path}: expected {len(missing)} more tensors: {', '.join(missing[:3])} (FAL's names)")


# ---- preprocessing ----


def find_preprocessing(
    folder: Path, layout: Layout, others: dict[str, Any], tensors: Tensors, choice: Preprocessing | None
) -> tuple[dict[str, Any], str]:
    """Settings of the source's processor and who says so: the option, its files, or the family's custom."""
    stored, origin = _stored_preprocessing(folder, layout, others)
    if choice is not None:
        return stored | PREPROCESSING[choice], f"{choice}, as asked for"
    if stored:
        return stored, origin
    family = _guess_family(layout, others, tensors)
    return PREPROCESSING[family], f"assumed: {family}"


def _stored_preprocessing(folder: Path, layout: Layout, others: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What processors of transformers, the reference's cfg or timm's configuration say, if anything."""
    if not layout.is_own:
        cfg = _object(_parse_reference_cfg(others.get("cfg")), "DATA")
        if cfg:
            return _mean_and_std(cfg.get("MEAN"), cfg.get("STD"), PILImageResampling.BILINEAR), "the checkpoint's cfg"
        timm = _object(read_json(folder / CONFIG_NAME), "pretrained_cfg") if (folder / CONFIG_NAME).is_file() else {}
        resample = getattr(PILImageResampling, str(timm.get("interpolation")).upper(), PILImageResampling.BICUBIC)
        return _mean_and_std(timm.get("mean"), timm.get("std"), resample), CONFIG_NAME
    for name in (VIDEO_PROCESSOR_NAME, IMAGE_PROCESSOR_NAME):
        if (folder / name).is_file():
            content = read_json(folder / name)
            stored = {key: content[key] for key in PROCESSOR_SETTINGS if content.get(key) is not None}
            side = stored.get("size")
            if isinstance(side, int):  # of old files: the square of an image, the short side of a video and of CLIP
                is_square = layout.is_of_images and layout is not TRANSFORMERS_CLIP
                stored["size"] = {"height": side, "width": side} if is_square else {"shortest_edge": side}
            return stored, name
    return {}, ""


def _mean_and_std(mean: Any, std: Any, resample: PILImageResampling) -> dict[str, Any]:
    known = isinstance(mean, list | tuple) and isinstance(std, list | tuple)
    return {"image_mean": list(mean), "image_std": list(std), "resample": resample} if known else {}


def _guess_family(layout: Layout, others: dict[str, Any], tensors: Tensors) -> Preprocessing:
    """DeiT stores its weights under "model", DINO has no head; both normalize as ImageNet's mean says."""
    if not layout.is_of_images:
        return "timesformer"
    if layout is TRANSFORMERS_CLIP:
        return "clip"
    if layout is TIMM_VIT and (
        others.get("state_dict_name") in ("model", "teacher") or "classifier.weight" not in tensors
    ):
        return "imagenet"
    return "vit"


__all__ = ["PREPROCESSING", "Source", "read_source"]
