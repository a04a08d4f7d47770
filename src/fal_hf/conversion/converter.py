"""
Checkpoints of other layouts to FAL folders: inflation of image models, other sizes, comparison with the source.

A checkpoint is written to a folder of its own, loaded from there again and compared with the model that it was made
for; only then does the folder get its name.
"""

import copy
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import CONFIG_NAME

from ..hub.model_card import describe_label_space, describe_scores, write_model_card
from ..hub.publish import add_code
from ..model.attention_schemes import MAIN_STEP, Grid
from ..model.configuration_fal import FALConfig
from ..model.modeling_fal import FALVideoClassifierForVideoClassification, resize_times
from ..model.video_processing_fal import FALVideoProcessor
from .checkpoint_files import read_json, read_labels, shorten
from .checkpoint_layouts import Source, as_side, expected_shapes, make_config, read_source
from .comparison import Comparison, compare
from .errors import ConversionError
from .label_tokens import LABEL_WEIGHTS, label_fields
from .loading import kept_dtype, load_model, resize_position_table
from .options import ConversionOptions
from .tensor_names import (
    HEAD_PREFIX,
    LABEL_TABLE,
    LOGIT_BIAS,
    PATCH_BIAS,
    POSITION_TABLE,
    TIME_TABLE,
    TRANSFORMERS_CLIP,
    Tensors,
    text_tensors,
)
from .text_tower import LabelRows, TextTower, label_texts, read_text_tower

# What `convert` does one after another.
STAGES = ("reading", "converting", "writing", "comparing with the source")

# Options that give labels, or what stands for them, to a model that takes any.
LABEL_OPTIONS = ("labels", "prompt", "hierarchy", "label_embeddings")


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
        num_text_parameters: Numbers in the text tower beside the model; 0 without one.
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
    num_text_parameters: int = 0

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
            "text tower": f"{self.num_text_parameters:,} parameters" if self.num_text_parameters else "",
            "labels": f"{self.config.num_labels}: {shorten(list((self.config.id2label or {}).values()))}",
            "scores": describe_scores(self.config),
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

    @property
    def drawn(self) -> set[str]:
        """What is new and has no tensors: it is drawn at random."""
        return self.new.keys() - self.tensors.keys()


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
    tower = read_text_tower(found, options) if config.classifier_type == "similarity" else None
    on_stage(STAGES[1])
    rows = label_rows(found, config, options, embeddings, tower)
    adapted = adapt(found, config, options, rows)
    model = build_model(found, adapted, config, options)
    if tower is not None:
        model.text_encoder = tower.as_stored()
    processor = make_processor(found, config, bgr=options.bgr)
    with tempfile.TemporaryDirectory(dir=_make_parent(output), prefix=f".{output.name}-") as workplace:
        folder = Path(workplace) / output.name
        on_stage(STAGES[2])
        model.save_pretrained(folder, max_shard_size=options.max_shard_size)
        processor.save_pretrained(folder)
        on_stage(STAGES[3])
        comparison = compare(folder, found, dtype=model.dtype, drawn=adapted.drawn, tower=tower, rows=rows)
        _require_parity(found.path, comparison, options.tolerance)
        has_new_tokens = any(name.startswith(LABEL_WEIGHTS) for name in adapted.drawn)
        _add_code_and_card(folder, found, options, comparison, has_new_tokens=has_new_tokens)
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
        left_out=found.left_out | _replaced(found, config, options, rows),
        processor=processor,
        comparison=comparison,
        num_text_parameters=0 if tower is None else tower.num_parameters,
    )


# ---- the model ----


def target_config(
    source: Source, options: ConversionOptions, labels: list[str] | None
) -> tuple[FALConfig, torch.Tensor | None]:
    """
    The configuration of the converted model, with the names of its classes where they are given, and the embeddings of
    its labels, where these are given.
    """
    keeps_head = source.has_head and not options.new_head
    is_open = keeps_head and source.config.classifier_type == "similarity"
    _require_own_tokens(source, options, is_open=is_open)
    old, scheme = source.config, _target_scheme(source, options)
    settings = old.to_dict()
    settings = {name: settings[name] for name in FALConfig.__annotations__ if name in settings}
    settings |= {"attention_type": scheme, "problem_type": old.problem_type, "id2label": old.id2label}
    if is_open:
        settings["label_prompt"] = options.prompt or old.label_prompt
    elif options.prompt is not None:
        raise ConversionError(
            f"prompt: expected a source whose labels are texts and whose head is kept, a CLIP, got {source.path}"
        )
    elif old.classifier_type == "similarity":
        size = ("label_embedding_size",) if old.label_attention == "none" else ()
        settings |= {name: getattr(FALConfig, name) for name in ("classifier_type", "label_prompt", *size)}
    settings |= {
        "num_frames": old.num_frames if options.num_frames is None else options.num_frames,
        "image_size": as_side(old.image_size if options.image_size is None else options.image_size),
    }
    if scheme != old.attention_type:  # an image model has no part in how time is attended to
        settings["cls_in_temporal_attention"] = FALConfig.cls_in_temporal_attention
        if old.position_embedding_type != "none":
            settings["position_embedding_type"] = "space_time"
    if labels is not None:
        if keeps_head and not is_open and len(labels) != old.num_labels:
            raise ConversionError(
                f"expected {old.num_labels} labels for the head of {source.path}, got {len(labels)}; --new-head "
                "starts a head for them"
            )
        settings["id2label"] = dict(enumerate(labels))
    elif is_open and source.layout is TRANSFORMERS_CLIP:
        raise ConversionError(
            f"{source.path}: expected --labels with a CLIP, which has none of its own (others can be given to the "
            "converted model at any time, by its set_labels), or --new-head, a head that is to be trained"
        )
    elif not keeps_head and old.label_attention == "none":
        settings["id2label"] = {0: "LABEL_0", 1: "LABEL_1"}
    names = settings["id2label"]
    known = copy.copy(old)
    known.classifier_type = settings["classifier_type"]
    of_labels, embeddings = label_fields(known, options, [names[number] for number in range(len(names))])
    if is_open and embeddings is not None and embeddings.shape[1] != old.label_embedding_size:
        raise ConversionError(
            f"{options.label_embeddings}: expected rows of {old.label_embedding_size} numbers, the size of what they "
            f"are compared with, got the shape {tuple(embeddings.shape)}"
        )
    if not keeps_head or of_labels.get("label_attention", old.label_attention) != old.label_attention:
        settings["temperature"] = FALConfig.temperature  # that of scores which are no more
    config = make_config(source.path, settings | of_labels)
    if old.label_attention != "none" and (config.label_hierarchy is None) != (old.label_hierarchy is None):
        expected, got = ("no hierarchy", "one") if old.label_hierarchy is None else ("a hierarchy", "none")
        raise ConversionError(
            f"{source.path}: expected {expected} above the labels, as its labels as tokens were trained, got {got}"
        )
    return config, embeddings


def label_rows(
    source: Source,
    config: FALConfig,
    options: ConversionOptions,
    embeddings: torch.Tensor | None,
    tower: TextTower | None,
) -> LabelRows | None:
    """The labels' embeddings, given or of their texts; None where there are none or they stay the source's own."""
    if embeddings is not None:
        return LabelRows(embeddings, f"from {Path(str(options.label_embeddings)).name}", are_given=True)
    has_others = any(getattr(options, name) is not None for name in LABEL_OPTIONS)
    if config.classifier_type != "similarity" or not (has_others or source.layout is TRANSFORMERS_CLIP):
        return None
    if tower is None:
        raise ConversionError(
            f"{source.path}: expected a text tower for other labels, which this model came without, or their "
            "--label-embeddings"
        )
    return LabelRows(tower.embed(label_texts(config)), f"of the texts {config.label_prompt!r}", are_given=False)


def _require_own_tokens(source: Source, options: ConversionOptions, *, is_open: bool) -> None:
    """Labels as tokens that a source has are trained for its labels, but for those of given embeddings."""
    if source.config.label_attention != "none":
        names = ("label_attention", "label_integration_layer", "hierarchy", "label_embeddings", "labels", "new_head")
        given = [name for name in names if getattr(options, name) != getattr(ConversionOptions, name)]
        given = [name for name in given if not (is_open and name in LABEL_OPTIONS)]
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


def adapt(source: Source, config: FALConfig, options: ConversionOptions, rows: LabelRows | None) -> Adapted:
    """The source's tensors for another scheme, size and head; tensors of a new head are not among them."""
    adapted = Adapted()
    tables = resize_tables(source, config, is_smooth=options.resize == "smooth")
    replaced = _replaced(source, config, options, rows)
    kept = {name: tensor for name, tensor in source.tensors.items() if name not in replaced}
    for name, shape in expected_shapes(config).items():
        if name in tables:
            adapted.tensors[name] = tables[name]
            adapted.used.append(name)
            adapted.resized.append(name)
        elif name in kept:
            adapted.tensors[name] = kept[name]
            adapted.used.append(name)
        elif name == LABEL_TABLE and rows is not None:
            adapted.tensors[name] = rows.embeddings
            adapted.new[name] = rows.origin
        elif name in (PATCH_BIAS, LOGIT_BIAS):
            adapted.tensors[name] = torch.zeros(shape)
            adapted.new[name] = "zero, as a CLIP has none"
        elif name.startswith((HEAD_PREFIX, *LABEL_WEIGHTS)):
            adapted.new[name] = "drawn at random"
        elif name == TIME_TABLE:
            adapted.tensors[name] = _start_time_table(source, shape, options.time_table)
            adapted.new[name] = options.time_table
        else:
            adapted.tensors[name] = _start_extra_step(source.tensors, name)
            adapted.copied.append(name)
    return adapted


def _replaced(source: Source, config: FALConfig, options: ConversionOptions, rows: LabelRows | None) -> dict[str, str]:
    """
    Names of the source's tensors that have no place beside a new head, other labels' embeddings, or behind labels
    alone, with the reason.
    """
    names = list(source.tensors)
    heads = [name for name in names if name.startswith(HEAD_PREFIX) and options.new_head]
    table = [name for name in names if name == LABEL_TABLE]
    texts, blocks = [], []
    if source.config.classifier_type == "similarity" and config.classifier_type == "linear":
        texts = [*text_tensors(source.native), *(table if config.label_attention == "none" else [])]
    if config.label_attention == "label":
        behind = tuple(f"fal.layers.{i}." for i in range(config.label_integration_layer, config.num_hidden_layers))
        blocks = [name for name in names if name.startswith(behind)]
    return {
        **dict.fromkeys(heads, "replaced by a new head"),
        **dict.fromkeys(table if rows is not None else [], "replaced by other labels'"),
        **dict.fromkeys(texts, "a new head is not compared with labels"),
        **dict.fromkeys(blocks, "from there on only labels go on"),
    }


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


def _resize_positions_nearest(table: torch.Tensor, old_grid: Grid, size: tuple[int, int]) -> torch.Tensor:
    return torch.cat([table[:, :1], _resize_nearest(table[:, 1:], size[0] * size[1])], dim=1)


def _resize_nearest(table: torch.Tensor, length: int) -> torch.Tensor:
    """A table `(1, entries, D)` to `(1, length, D)` as the reference does it."""
    return nn.functional.interpolate(table.transpose(1, 2), size=length, mode="nearest").transpose(1, 2)


def build_model(
    source: Source, adapted: Adapted, config: FALConfig, options: ConversionOptions
) -> FALVideoClassifierForVideoClassification:
    """The classifier of the tensors; what is not among them, a new head, is drawn with a fixed seed."""
    dtype = getattr(torch, options.dtype_name) if options.dtype_name else kept_dtype(source.tensors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, info = load_model(FALVideoClassifierForVideoClassification, config, dict(adapted.tensors), dtype)
    if info["missing_keys"] != adapted.drawn or info["unexpected_keys"]:
        raise ConversionError(f"{source.path}: expected every tensor to be loaded, got {info}")
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ConversionError(
                f"{source.path}: {name}: has numbers beyond the range of {dtype}; choose another --dtype"
            )
    return model.eval()


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


# ---- the folder ----


def _require_parity(path: Path, comparison: Comparison, tolerance: float) -> None:
    if not comparison.difference <= tolerance * comparison.scale:
        raise ConversionError(
            f"{path}: expected a difference of at most {tolerance:g} x {comparison.scale:.3g}, got: {comparison}; "
            "nothing was written"
        )


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
