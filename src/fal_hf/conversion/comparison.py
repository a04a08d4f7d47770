"""What a converted folder computes beside the source's own model."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    TimesformerForVideoClassification,
    TimesformerModel,
    ViTForImageClassification,
    ViTModel,
)
from transformers.utils import CONFIG_NAME

from ..model.attention_schemes import ATTENTION_SCHEMES, Grid
from ..model.modeling_fal import (
    FALEmbeddings,
    FALModel,
    FALVideoClassifierForVideoClassification,
    resize_times,
    run_layers,
)
from ..model.text_encoder import TextEncoder
from .checkpoint_files import read_json
from .checkpoint_layouts import CONFIG_CLASSES, Source, parse_config
from .errors import ConversionError
from .label_tokens import LABEL_WEIGHTS
from .loading import load_model, resize_position_table
from .tensor_names import HEAD_PREFIX, TRANSFORMERS_CLIP, text_tensors, vision_tensors
from .text_tower import LabelRows, TextTower, find_text_config, known_fields, label_texts

CLASSES_OF_IMAGES = (ViTForImageClassification, ViTModel, CLIPModel, CLIPVisionModel)

# Of more labels than these texts are not embedded again.
MOST_TEXTS = 32

# What the source's model and FAL say of the same thing.
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Comparison:
    """
    What the written folder computes beside the source's model, both in float32.

    Args:
        difference: The largest difference of two numbers.
        scale: The largest of the source's numbers, or 1 where that is larger; the tolerance is a share of it.
        output: "logits", of a CLIP with the embeddings of the labels' texts; "CLS embedding" where the head is new, or
            labels are new as tokens; "CLS token before the labels" where these change what follows.
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


@torch.no_grad()
def compare(
    folder: Path,
    source: Source,
    *,
    dtype: torch.dtype,
    drawn: Collection[str],
    tower: TextTower | None = None,
    rows: LabelRows | None = None,
) -> Comparison:
    """
    Loads a converted folder and the source's model and compares what they compute, in float32.

    A video model sees a moving clip. An image model sees one frame, and the converted one the clip that holds that
    frame all the time; the clip is one frame long for joint attention, one column of patches for axial and a single
    patch for sparse local-global attention, for these see other patches than an image model does on larger clips. A
    time table that is not zero is set to zero for this. The source's weights are rounded to the precision of the
    folder's, and its tables are the folder's where they were resized. Where labels are new as tokens, the features are
    compared: the CLS embedding where they do not change it yet, else the CLS token before them. A CLIP sees the texts
    of the first labels as well.

    Args:
        folder: The converted folder.
        source: What was converted.
        dtype: The precision of the folder's model.
        drawn: FAL's names of weights that were drawn at random.
        tower: The source's text tower, where the folder has one.
        rows: The labels' embeddings, where they are not those of the source itself.
    """
    has_new_tokens = any(name.startswith(LABEL_WEIGHTS) for name in drawn)
    keeps_logits = not has_new_tokens and not any(name.startswith(HEAD_PREFIX) for name in drawn)
    model_class = FALVideoClassifierForVideoClassification if keeps_logits else FALModel
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    embeddings = (model.fal if isinstance(model, FALVideoClassifierForVideoClassification) else model).embeddings
    config, grid = model.config, model.config.grid_size
    if source.is_image_model:
        grid = ATTENTION_SCHEMES[config.attention_type].image_grid(grid)
        if embeddings.time_embeddings is not None:
            embeddings.time_embeddings.zero_()
    frames, height, width = (grid[0], *(side * config.patch_size for side in grid[1:]))
    shape = (1, 1 if source.is_image_model else frames, config.num_channels, height, width)
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    original = load_original(source, embeddings, grid, dtype=dtype, keeps_head=keeps_logits)
    shown = clip.expand(-1, frames, -1, -1, -1)
    inputs: dict[str, Any] = {"pixel_values": clip[:, 0] if isinstance(original, CLASSES_OF_IMAGES) else clip}
    if isinstance(original, CLIPModel | CLIPVisionModel):
        inputs["interpolate_pos_encoding"] = True
    leaves_features = config.label_attention == "divided" and config.label_gates
    if isinstance(model, FALVideoClassifierForVideoClassification):
        output = "logits"
        pairs = compare_logits(model, shown, original, inputs, dtype=dtype, tower=tower, rows=rows)
    elif has_new_tokens and not leaves_features:
        output, layer = "CLS token before the labels", config.label_integration_layer
        expected = original(**inputs, output_hidden_states=True).hidden_states[layer][0, 0]
        tokens, token_grid = model.embeddings(shown)
        pairs = [(expected, run_layers(list(model.layers)[:layer], tokens, token_grid)[0, 0])]
    else:
        output = "CLS embedding"
        pairs = [(_cls_embedding(original(**inputs)), _cls_embedding(model(shown)))]
    kind = "still" if source.is_image_model else "moving"
    return Comparison(
        difference=torch.cat([(result - expected).flatten() for expected, result in pairs]).abs().max().item(),
        scale=max(torch.cat([expected.flatten() for expected, _ in pairs]).abs().max().item(), 1.0),
        output=output,
        model=type(original).__name__,
        clip=f"a {kind} clip of {frames} x {height} x {width}",
    )


def _cls_embedding(outputs: Any) -> torch.Tensor:
    """The CLS token after the last norm, which CLIP's classes put into the pooled output alone."""
    pooled = outputs.get("pooler_output")
    return outputs.last_hidden_state[:, 0] if pooled is None else pooled


def compare_logits(
    model: FALVideoClassifierForVideoClassification,
    shown: torch.Tensor,
    original: PreTrainedModel,
    inputs: dict[str, Any],
    *,
    dtype: torch.dtype,
    tower: TextTower | None,
    rows: LabelRows | None,
) -> list[Pair]:
    """The logits of both, and where there are texts the embeddings of the first labels'."""
    logits = model(shown).logits
    texts = label_texts(model.config)[: min(model.num_labels, MOST_TEXTS)]
    if isinstance(original, CLIPModel):
        tokenizer, given = cast(TextTower, tower).encoder.tokenizer, rows if rows and rows.are_given else None
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        embedded = cast(torch.Tensor, cast(Any, original.get_text_features(**tokens)).pooler_output)
        # what it compares images with is what the folder has: rounded, or given rows instead
        table = (embedded if given is None else given.embeddings[: len(texts)]).to(dtype).float()
        original.text_projection.register_forward_hook(lambda *args: table)
        expected = cast(torch.Tensor, original(**inputs, **tokens).logits_per_image)
        return [(expected, logits[:, : len(texts)]), (embedded, _embed(model, texts))]
    if rows is not None:
        labels, table = model.config.label_space.names[: model.num_labels], rows.embeddings.to(dtype).float()
        cast(FALVideoClassifierForVideoClassification, original).set_labels(
            labels, table, hierarchy=model.config.label_hierarchy
        )
    of_texts = [] if tower is None else [(tower.embed(texts), _embed(model, texts))]
    return [(original(**inputs).logits, logits), *of_texts]


def _embed(model: FALVideoClassifierForVideoClassification, texts: list[str]) -> torch.Tensor:
    """The embeddings of texts by the tower that was written beside a model."""
    return cast(TextEncoder, model.text_encoder)(texts)


def load_original(
    source: Source, embeddings: FALEmbeddings, grid: Grid, *, dtype: torch.dtype, keeps_head: bool
) -> PreTrainedModel:
    """The source's tensors in the class that they were made for, with tables for a grid of patches."""
    if source.layout is TRANSFORMERS_CLIP:
        return load_clip(source, embeddings, grid, dtype=dtype, keeps_head=keeps_head)
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
    model, info = load_model(model_class, config, state, torch.float32, **options)
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


def load_clip(
    source: Source, embeddings: FALEmbeddings, grid: Grid, *, dtype: torch.dtype, keeps_head: bool
) -> CLIPModel | CLIPVisionModel:
    """Both towers of a CLIP, or that of images where the head is new, with positions for a grid of patches."""
    where = source.folder / CONFIG_NAME
    if not isinstance(source.config.image_size, int):
        raise ConversionError(f"{where}: expected image_size to be one side, got {source.config.image_size}")
    stored = read_json(where)
    declared = parse_config(where, stored, CONFIG_CLASSES[stored["model_type"]])
    state = {name: tensor.to(dtype).float() for name, tensor in source.native.items() if name not in source.left_out}
    model_class, size = CLIPVisionModel, source.config.label_embedding_size
    config = CLIPVisionConfig(**known_fields(getattr(declared, "vision_config", declared)))
    if keeps_head:
        text_config = find_text_config(source.folder, text_tensors(state), declared.text_config, size=size)
        model_class = CLIPModel
        config = CLIPConfig(text_config=text_config.to_dict(), vision_config=config.to_dict(), projection_dim=size)
    else:
        state = vision_tensors(state)
    model, info = load_model(model_class, config, state, torch.float32)
    if info["missing_keys"]:
        raise ConversionError(f"{where}: {model_class.__name__} misses {', '.join(sorted(info['missing_keys']))}")
    if grid[1:] != source.config.grid_size[1:]:
        table = cast(torch.Tensor, embeddings.position_embeddings)
        positions = resize_position_table(table, embeddings.table_grid, grid[1:])
        tower: Any = model.vision_model if isinstance(model, CLIPModel) else model
        tower.embeddings.interpolate_pos_encoding = lambda *args: positions  # CLIP's own is for squares alone
    return model.eval()


__all__ = ["Comparison", "compare"]
