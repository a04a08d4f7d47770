"""
Checkpoints of other layouts to FAL folders: inflation of image models, other sizes, comparison with the source.

A checkpoint is written to a folder of its own, loaded from there again and compared with the model that it was made
for; only then does the folder get its name.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    TimesformerForVideoClassification,
    TimesformerModel,
    ViTForImageClassification,
    ViTModel,
)
from transformers.utils import CONFIG_NAME

from ..hub.model_card import describe_label_space, write_model_card
from ..hub.publish import add_code
from ..model.attention_schemes import ATTENTION_SCHEMES, MAIN_STEP, Grid
from ..model.configuration_fal import FALConfig
from ..model.modeling_fal import (
    FALEmbeddings,
    FALModel,
    FALVideoClassifierForVideoClassification,
    resize_positions,
    resize_times,
    run_layers,
)
from ..model.video_processing_fal import FALVideoProcessor
from .checkpoint_files import read_json, read_labels, shorten
from .checkpoint_layouts import (
    POSITION_TABLE,
    TIME_TABLE,
    Source,
    Tensors,
    as_side,
    expected_shapes,
    make_config,
    read_source,
)
from .errors import ConversionError
from .label_tokens import LABEL_WEIGHTS, label_fields
from .options import ConversionOptions

Model = TypeVar("Model", bound=PreTrainedModel)

# What `convert` does one after another.
STAGES = ("reading", "converting", "writing", "comparing with the source")

LABEL_TABLE = "fal.label_embeddings.embeddings.weight"
KEPT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Comparison:
    """
    What the written folder computes beside the source's model, both in float32.

    Args:
        difference: The largest difference of two numbers.
        scale: The largest of the source's numbers, or 1 where that is larger; the tolerance is a share of it.
        output: "logits"; "CLS embedding" where the head is new, or labels are new as tokens; "CLS token before the
            labels" where these change what follows.
        model: The class that computed the source's numbers.
        clip: The clip that both saw.
    """

    difference: float
    scale: float
    output: str
    model: str
    clip: str

    def __str__(self):
        return f"largest difference of the {self.output} from {self.model}'s: {self.difference:.1e}, on {self.clip}"


@dataclass(frozen=True)
class Conversion:
    """
    What a conversion did.

    Args:
        output: The folder.
        source: What was converted, and `config`, what it became.
        num_parameters: Numbers in the model.
        dtype: Their type.
        used: FAL's names of the tensors that are the source's, and of those among them that were resized in `resized`.
        copied: Those of extra steps, which are copies of the main step with a zero Linear.
        new: Those that the source has not; the reason is the value.
        left_out: Names of tensors that were not used, with the reason.
        processor: The settings of pixels.
        comparison: The written folder beside the source.
    """

    output: Path
    source: Source
    config: FALConfig
    num_parameters: int
    dtype: torch.dtype
    used: list[str]
    resized: list[str]
    copied: list[str]
    new: dict[str, str]
    left_out: dict[str, str]
    processor: FALVideoProcessor
    comparison: Comparison

    def summary(self) -> dict[str, str]:
        """Rows of a table for people."""
        frames, rows, columns = self.config.grid_size
        patch = self.config.patch_size
        processor = self.processor
        order = "BGR" if processor.do_flip_channel_order else "RGB"
        table = {
            "source": f"{self.source.path} ({self.source.layout.name})",
            "attention": f"{self.config.attention_type}{', inflated' if self.copied else ''}",
            "clip": f"{frames} frames of {rows * patch} x {columns * patch}, patches of {patch} x {patch}",
            "blocks": f"{self.config.num_hidden_layers} of width {self.config.hidden_size}, {self.source.heads}",
            "parameters": f"{self.num_parameters:,} in {str(self.dtype).removeprefix('torch.')}",
            "labels": f"{self.config.num_labels}: {shorten(list((self.config.id2label or {}).values()))}",
            "label space": describe_label_space(self.config),
            "tensors": (
                f"{len(self.used)} of the source, {len(self.copied)} of extra steps, {len(self.new)} new, "
                f"{len(self.left_out)} left out"
            ),
            "resized": ", ".join(self.resized),
            "new": _by_reason(self.new),
            "left out": _by_reason(self.left_out),
            "pixels": (
                f"{order}, mean {_numbers(processor.image_mean)}, std {_numbers(processor.image_std)} "
                f"({self.source.preprocessing_origin})"
            ),
            "compared": str(self.comparison),
            "output": str(self.output),
        }
        return {name: text for name, text in table.items() if text}


def _by_reason(reasons: dict[str, str]) -> str:
    """Names that share a reason together, `name, name (reason); name (reason)`."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{shorten(sharing)} ({reason})" for reason, sharing in names.items())


def _numbers(values: Any) -> str:
    numbers = [f"{value:g}" for value in (values if isinstance(values, list | tuple) else [values])]
    return numbers[0] if len(set(numbers)) == 1 else ", ".join(numbers)


@dataclass
class Adapted:
    """Tensors of the target model, and where they come from."""

    tensors: Tensors = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    new: dict[str, str] = field(default_factory=dict)


def convert(
    source: str | PathLike,
    output: str | PathLike,
    options: ConversionOptions | None = None,
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Conversion:
    """
    Writes a FAL folder (model, processors, card) from a checkpoint of another layout, whole or not at all.

    Args:
        source: A file, a folder or a Hub id; see `LAYOUTS`.
        output: The folder; it must not exist, be empty, or with `options.overwrite` hold a FAL model.
        options: What is to become of the source; see [`ConversionOptions`] for the defaults.
        on_stage: Is told what is done next, one of `STAGES`.

    Raises:
        ConversionError: where the source, the options or the comparison do not allow it; nothing is written then.
    """
    output, options = Path(output), options or ConversionOptions()
    _require_room(output, options.overwrite)
    labels = None if options.labels is None else read_labels(options.labels)
    on_stage(STAGES[0])
    found = read_source(source, options)
    config, embeddings = target_config(found, options, labels)
    on_stage(STAGES[1])
    adapted = adapt(found, config, options)
    if embeddings is not None:
        adapted.tensors[LABEL_TABLE] = embeddings
        adapted.new[LABEL_TABLE] = f"from {Path(str(options.label_embeddings)).name}"
    model = build_model(found, adapted, config, options)
    processor = make_processor(found, config, bgr=options.bgr)
    with tempfile.TemporaryDirectory(dir=_make_parent(output), prefix=f".{output.name}-") as workplace:
        folder = Path(workplace) / output.name
        on_stage(STAGES[2])
        model.save_pretrained(folder, max_shard_size=options.max_shard_size)
        processor.save_pretrained(folder)
        on_stage(STAGES[3])
        comparison = compare(folder, found, dtype=model.dtype, adapted=adapted)
        _require_parity(found.path, comparison, options.tolerance)
        _add_code_and_card(folder, found, options, comparison, has_new_tokens=_has_new_tokens(adapted))
        _move(folder, output, Path(workplace))
    return Conversion(
        output=output,
        source=found,
        config=config,
        num_parameters=model.num_parameters(),
        dtype=model.dtype,
        used=adapted.used,
        resized=adapted.resized,
        copied=adapted.copied,
        new=adapted.new,
        left_out=found.left_out | _replaced(found, config, options),
        processor=processor,
        comparison=comparison,
    )


# ---- the model ----


def target_config(
    source: Source, options: ConversionOptions, labels: list[str] | None
) -> tuple[FALConfig, torch.Tensor | None]:
    """
    The configuration of the converted model, with the names of its classes where they are given, and the embeddings of
    its labels as tokens, where these are given.
    """
    _require_own_tokens(source, options)
    old, scheme = source.config, _target_scheme(source, options)
    settings = old.to_dict()
    settings = {name: settings[name] for name in FALConfig.__annotations__ if name in settings}
    settings |= {"attention_type": scheme, "problem_type": old.problem_type, "id2label": old.id2label}
    settings |= {
        "num_frames": old.num_frames if options.num_frames is None else options.num_frames,
        "image_size": as_side(old.image_size if options.image_size is None else options.image_size),
    }
    if scheme != old.attention_type:  # an image model has no part in how time is attended to
        settings["cls_in_temporal_attention"] = FALConfig.cls_in_temporal_attention
        if old.position_embedding_type != "none":
            settings["position_embedding_type"] = "space_time"
    keeps_head = source.has_head and not options.new_head
    if labels is not None:
        if keeps_head and len(labels) != old.num_labels:
            raise ConversionError(
                f"expected {old.num_labels} labels for the head of {source.path}, got {len(labels)}; --new-head "
                "starts a head for them"
            )
        settings["id2label"] = dict(enumerate(labels))
    elif not keeps_head and old.label_attention == "none":
        settings["id2label"] = {0: "LABEL_0", 1: "LABEL_1"}
    names = settings["id2label"]
    of_labels, embeddings = label_fields(old, options, [names[number] for number in range(len(names))])
    return make_config(source.path, settings | of_labels), embeddings


def _require_own_tokens(source: Source, options: ConversionOptions) -> None:
    """Labels as tokens that a source has are trained for its labels."""
    if source.config.label_attention != "none":
        names = ("label_attention", "label_integration_layer", "hierarchy", "label_embeddings", "labels", "new_head")
        given = [name for name in names if getattr(options, name) != getattr(ConversionOptions, name)]
        if given:
            raise ConversionError(
                f"{source.path}: expected its own labels, which it has as tokens, without {', '.join(given)}; "
                "fal train goes on from it with others"
            )


def _target_scheme(source: Source, options: ConversionOptions) -> str:
    own = source.config.attention_type
    if source.is_image_model:
        return options.attention_type or (FALConfig.attention_type if source.layout.is_of_images else own)
    if options.attention_type not in (None, own):
        raise ConversionError(
            f"{source.path}: expected attention_type {own}, got {options.attention_type}: frames see one another in "
            "this model, and another scheme would give other results; image and space_only models can change theirs"
        )
    return own


def adapt(source: Source, config: FALConfig, options: ConversionOptions) -> Adapted:
    """The source's tensors for another scheme, size and head; tensors of a new head are not among them."""
    adapted = Adapted()
    tables = resize_tables(source, config, is_smooth=options.resize == "smooth")
    replaced = _replaced(source, config, options)
    kept = {name: tensor for name, tensor in source.tensors.items() if name not in replaced}
    for name, shape in expected_shapes(config).items():
        if name in tables:
            adapted.tensors[name] = tables[name]
            adapted.used.append(name)
            adapted.resized.append(name)
        elif name in kept:
            adapted.tensors[name] = kept[name]
            adapted.used.append(name)
        elif name.startswith(("classifier.", *LABEL_WEIGHTS)):
            adapted.new[name] = "drawn at random"
        elif name == TIME_TABLE:
            adapted.tensors[name] = _start_time_table(source, shape, options.time_table)
            adapted.new[name] = options.time_table
        else:
            adapted.tensors[name] = _start_extra_step(source.tensors, name)
            adapted.copied.append(name)
    return adapted


def _is_of_head(name: str) -> bool:
    return name.startswith("classifier.")


def _replaced(source: Source, config: FALConfig, options: ConversionOptions) -> dict[str, str]:
    """Names of the source's tensors that have no place beside a new head, or behind labels alone, with the reason."""
    heads = [name for name in source.tensors if _is_of_head(name) and options.new_head]
    blocks = []
    if config.label_attention == "label":
        behind = tuple(f"fal.layers.{i}." for i in range(config.label_integration_layer, config.num_hidden_layers))
        blocks = [name for name in source.tensors if name.startswith(behind)]
    return dict.fromkeys(heads, "replaced by a new head") | dict.fromkeys(blocks, "from there on only labels go on")


def _start_extra_step(tensors: Tensors, name: str) -> torch.Tensor:
    """A copy of the main step's tensor; the Linear that ends an extra step is zero and so leaves the step out."""
    if ".dense." in name:
        like = tensors[f"fal.layers.0.steps.{MAIN_STEP}.attention.o_proj." + name.rsplit(".", 1)[1]]
        return torch.zeros_like(like)
    return tensors[re.sub(r"\.steps\.\w+\.", f".steps.{MAIN_STEP}.", name)].clone()


def _start_time_table(source: Source, shape: tuple[int, ...], kind: str) -> torch.Tensor:
    if kind == "zero":
        return torch.zeros(shape)
    positions = source.tensors[POSITION_TABLE][:, 1:].float()
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * positions.std()


def resize_tables(source: Source, config: FALConfig, *, is_smooth: bool) -> Tensors:
    """The position and time tables that have another size in the target, at that size."""
    (old_frames, *old_grid), (frames, rows, columns) = source.config.grid_size, config.grid_size
    positions, times = source.tensors.get(POSITION_TABLE), source.tensors.get(TIME_TABLE)
    tables = {}
    if positions is not None and [rows, columns] != old_grid:
        resized = resize_position_table if is_smooth else _resize_positions_nearest
        tables[POSITION_TABLE] = resized(positions, source.config.grid_size, (rows, columns))
    if times is not None and frames != old_frames:
        tables[TIME_TABLE] = resize_times(times, frames) if is_smooth else _resize_nearest(times, frames)
    return tables


def resize_position_table(table: torch.Tensor, old_grid: Grid, size: tuple[int, int]) -> torch.Tensor:
    """A position table `(1, 1 + H·W, D)` for `(rows, columns)` patches, as a model makes it for another clip."""
    patches = resize_positions(table[:, 1:].unflatten(1, old_grid[1:]), size)
    return torch.cat([table[:, :1], patches.flatten(1, 2)], dim=1)


def _resize_positions_nearest(table: torch.Tensor, old_grid: Grid, size: tuple[int, int]) -> torch.Tensor:
    return torch.cat([table[:, :1], _resize_nearest(table[:, 1:], size[0] * size[1])], dim=1)


def _resize_nearest(table: torch.Tensor, length: int) -> torch.Tensor:
    """A table `(1, entries, D)` to `(1, length, D)` as the reference does it."""
    return nn.functional.interpolate(table.transpose(1, 2), size=length, mode="nearest").transpose(1, 2)


def build_model(
    source: Source, adapted: Adapted, config: FALConfig, options: ConversionOptions
) -> FALVideoClassifierForVideoClassification:
    """The classifier of the tensors; what is not among them, a new head, is drawn with a fixed seed."""
    dtype = getattr(torch, options.dtype_name) if options.dtype_name else _kept_dtype(source.tensors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, info = _load(FALVideoClassifierForVideoClassification, config, dict(adapted.tensors), dtype)
    if info["missing_keys"] != adapted.new.keys() - adapted.tensors.keys() or info["unexpected_keys"]:
        raise ConversionError(f"{source.path}: expected every tensor to be loaded, got {info}")
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ConversionError(
                f"{source.path}: {name}: has numbers beyond the range of {dtype}; choose another --dtype"
            )
    return model.eval()


def _load(
    model_class: type[Model], config: PreTrainedConfig, state: Tensors, dtype: torch.dtype, **options: Any
) -> tuple[Model, dict[str, Any]]:
    """A model of tensors, and which of them were missing or left over."""
    return model_class.from_pretrained(  # pyright: ignore[reportReturnType]  # the hint leaves out the second part
        None, config=config, state_dict=state, dtype=dtype, output_loading_info=True, **options
    )


def _kept_dtype(tensors: Tensors) -> torch.dtype:
    """The source's precision; that of most numbers, as norms may be kept in a higher one."""
    largest = max(tensors.values(), key=torch.Tensor.numel)
    return largest.dtype if largest.dtype in KEPT_DTYPES else torch.float32


# ---- preprocessing ----


def make_processor(source: Source, config: FALConfig, *, bgr: bool) -> FALVideoProcessor:
    """The processor of a converted model, for clips of its size."""
    settings = dict(source.preprocessing)
    height, width = _sides(config)
    crop_size = {"height": height, "width": width}
    old_sides = _sides(source.config)
    is_resized = (height, width) != old_sides
    if "size" not in settings:
        settings["size"] = {"shortest_edge": height} if height == width else crop_size
    elif is_resized:
        scale = min(height, width) / min(old_sides)
        edge = settings["size"].get("shortest_edge")
        settings["size"] = crop_size if edge is None else {"shortest_edge": round(edge * scale)}
    if is_resized or "crop_size" not in settings:
        settings["crop_size"] = crop_size
    if bgr:
        settings["do_flip_channel_order"] = True
    try:
        processor = FALVideoProcessor(**settings, num_frames=config.num_frames)
        processor(torch.zeros(1, config.num_channels, height, width, dtype=torch.uint8), num_frames=1)
    except Exception as error:  # settings of a foreign file may fail in any way
        raise ConversionError(f"{source.path}: {source.preprocessing_origin}: {error}") from error
    return processor


def _sides(config: FALConfig) -> tuple[int, int]:
    size = config.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


# ---- comparing ----


def _keeps_head(adapted: Adapted) -> bool:
    return not any(_is_of_head(name) for name in adapted.new)


def _has_new_tokens(adapted: Adapted) -> bool:
    return any(name.startswith(LABEL_WEIGHTS) for name in adapted.new)


@torch.no_grad()
def compare(folder: Path, source: Source, *, dtype: torch.dtype, adapted: Adapted) -> Comparison:
    """
    Loads a converted folder and the source's model and compares what they compute, in float32.

    A video model sees a moving clip. An image model sees one frame, and the converted one the clip that holds that
    frame all the time; the clip is one frame long for joint attention, one column of patches for axial and a single
    patch for sparse local-global attention, for these see other patches than an image model does on larger clips. A
    time table that is not zero is set to zero for this. The source's weights are rounded to the precision of the
    folder's, and its tables are the folder's where they were resized. Where labels are new as tokens, the features are
    compared: the CLS embedding where they do not change it yet, else the CLS token before them.
    """
    has_new_tokens = _has_new_tokens(adapted)
    keeps_logits = _keeps_head(adapted) and not has_new_tokens
    model_class = FALVideoClassifierForVideoClassification if keeps_logits else FALModel
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    embeddings = (model.fal if isinstance(model, FALVideoClassifierForVideoClassification) else model).embeddings
    config, grid = model.config, model.config.grid_size
    if source.is_image_model:
        grid = ATTENTION_SCHEMES[config.attention_type].image_grid(grid)
        if embeddings.time_embeddings is not None:
            embeddings.time_embeddings.zero_()
    frames, rows, columns = grid
    patch = config.patch_size
    shape = (1, 1 if source.is_image_model else frames, config.num_channels, rows * patch, columns * patch)
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    original = load_original(source, embeddings, grid, dtype=dtype, keeps_head=keeps_logits)
    seen = clip[:, 0] if isinstance(original, ViTForImageClassification | ViTModel) else clip
    shown = clip.expand(-1, frames, -1, -1, -1)
    leaves_features = config.label_attention == "divided" and config.label_gates
    if isinstance(model, FALModel) and has_new_tokens and not leaves_features:
        output = "CLS token before the labels"
        expected = original(seen, output_hidden_states=True).hidden_states[config.label_integration_layer][0, 0]
        tokens, token_grid = model.embeddings(shown)
        result = run_layers(list(model.layers)[: config.label_integration_layer], tokens, token_grid)[0, 0]
    else:
        output = "logits" if keeps_logits else "CLS embedding"
        expected, result = _result(original(seen)), _result(model(shown))
    kind = "still" if source.is_image_model else "moving"
    return Comparison(
        difference=(result - expected).abs().max().item(),
        scale=max(expected.abs().max().item(), 1.0),
        output=output,
        model=type(original).__name__,
        clip=f"a {kind} clip of {frames} x {rows * patch} x {columns * patch}",
    )


def _result(outputs: Any) -> torch.Tensor:
    """Logits, or the CLS embedding of a model without a head."""
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state[:, 0]


def load_original(
    source: Source, embeddings: FALEmbeddings, grid: Grid, *, dtype: torch.dtype, keeps_head: bool
) -> PreTrainedModel:
    """The source's tensors in the class that they were made for, with tables for a grid of patches."""
    frames, rows, columns = grid
    frames = 1 if source.is_image_model else frames
    state = {name: tensor.to(dtype).float() for name, tensor in source.native.items()}
    tables = {}
    if embeddings.position_embeddings is not None and (rows, columns) != source.config.grid_size[1:]:
        positions = resize_position_table(embeddings.position_embeddings, embeddings.table_grid, (rows, columns))
        tables["position_embeddings"] = positions
    if not source.is_image_model and embeddings.time_embeddings is not None and frames != source.config.num_frames:
        tables["time_embeddings"] = resize_times(embeddings.time_embeddings, frames)
    for table, value in tables.items():
        state |= {name: value for name in state if name.endswith(f"embeddings.{table}")}
    model_class = source.layout.classes[0 if keeps_head else 1]
    config = _original_config(
        source,
        model_class.config_class,  # pyright: ignore[reportArgumentType]  # None in the base class alone
        grid=(frames, rows, columns),
    )
    state = {name: tensor for name, tensor in state.items() if name not in source.left_out}
    options = {"add_pooling_layer": False} if model_class is ViTModel else {}
    model, info = _load(model_class, config, state, torch.float32, **options)
    if info["missing_keys"]:
        raise ConversionError(
            f"{source.path}: {model_class.__name__} misses {', '.join(sorted(info['missing_keys']))}"
        )
    if isinstance(model, TimesformerForVideoClassification | TimesformerModel):
        model.config.image_size = columns * config.patch_size  # its blocks take the width from here, as one number
    return model.eval()


def _original_config(source: Source, config_class: type[PreTrainedConfig], *, grid) -> PreTrainedConfig:
    """The source's configuration in its own class, for clips of a grid of patches."""
    frames, rows, columns = grid
    settings: dict[str, Any] = source.config.to_dict() | source.declared
    size = {"num_frames": frames, "image_size": [side * settings["patch_size"] for side in (rows, columns)]}
    # typed as a whole number in one of the classes, and of no effect on results
    names = config_class.__annotations__.keys() - {"drop_path_rate"}
    settings = {name: value for name, value in (settings | size).items() if name in names}
    settings["id2label"] = source.config.id2label
    return config_class(**settings)


def _require_parity(path: Path, comparison: Comparison, tolerance: float) -> None:
    if not comparison.difference <= tolerance * comparison.scale:
        raise ConversionError(
            f"{path}: expected a difference of at most {tolerance:g} x {comparison.scale:.3g}, got: {comparison}; "
            "nothing was written"
        )


# ---- the folder ----


def _add_code_and_card(
    folder: Path, source: Source, options: ConversionOptions, comparison: Comparison, *, has_new_tokens: bool
) -> None:
    if options.with_code:
        add_code(folder)
    origin = f"Converted from `{source.name}` ({source.layout.name}): {comparison}."
    if source.assumes_heads:
        origin += f" The source does not tell its attention heads: {source.heads}."
    if has_new_tokens:
        origin += (
            " The weights of its labels as tokens are untrained: its scores mean nothing before it is fine-tuned."
        )
    base_model = options.base_model or source.hub_id
    write_model_card(folder, license=options.license, base_model=base_model, origin=origin, repo_id=options.repo_id)


def _require_room(output: Path, overwrite: bool) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not overwrite:
        raise ConversionError(f"{output}: exists; choose another folder, or --overwrite for one with a FAL model")
    config = output / CONFIG_NAME
    if not config.is_file() or read_json(config).get("model_type") != FALConfig.model_type:
        raise ConversionError(f"{output}: expected a folder with a FAL model to overwrite; choose another one")


def _make_parent(output: Path) -> Path:
    parent = output.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _move(folder: Path, output: Path, workplace: Path) -> None:
    """Gives the finished folder its name; what was there before goes with the workplace."""
    if output.exists():
        shutil.move(output, workplace / "replaced")
    folder.rename(output)


__all__ = ["STAGES", "Comparison", "Conversion", "convert"]
