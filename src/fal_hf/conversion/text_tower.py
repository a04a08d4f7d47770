"""
The text tower and the tokenizer of a source whose labels are texts: of a CLIP, or of a FAL model that came with them.

Sizes are those of the tensors: nothing is made that a configuration alone asks for.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import CONFIG_NAME

from ..model.configuration_fal import FALConfig
from ..model.text_encoder import TEXT_FOLDER, TextEncoder
from .checkpoint_files import SIDE_FILES, describe, download, find_weights, read_json, read_weights
from .checkpoint_layouts import Source, parse_config, require_agreement, shape_of
from .errors import ConversionError
from .loading import kept_dtype, load_model
from .options import ConversionOptions
from .tensor_names import TEXT_PREFIX, TEXT_PROJECTION, TRANSFORMERS_CLIP, Tensors, text_tensors

# What a tokenizer of CLIP is read from: all files of a line.
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
TEXT_LAYER = re.compile(rf"^{re.escape(TEXT_PREFIX)}encoder\.layers\.(\d{{1,6}})\.")


@dataclass(frozen=True)
class TextTower:
    """
    What embeds the texts of labels.

    Args:
        encoder: The tower, whose weights are rounded to `dtype` and which computes in float32, and its tokenizer.
        dtype: The precision that it is stored in.
        folder: Where it was found.
    """

    encoder: TextEncoder
    dtype: torch.dtype
    folder: Path

    @property
    def num_parameters(self) -> int:
        return self.encoder.model.num_parameters()

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """The texts' embeddings, `(N, size)` float32; a ConversionError where there are none."""
        try:
            rows = self.encoder(texts)
        except Exception as error:  # the tokenizer is foreign, and so is what the tower makes of its tokens
            raise ConversionError(f"{self.folder}: expected texts to be embedded, got {describe(error)}") from error
        if not torch.isfinite(rows).all():
            raise ConversionError(f"{self.folder}: expected finite embeddings of texts, got NaN or infinity")
        return rows

    def as_stored(self) -> TextEncoder:
        """The tower in the precision that it is stored in, for a model that is saved."""
        model: Any = copy.deepcopy(self.encoder.model)
        return TextEncoder(model.to(self.dtype), self.encoder.tokenizer)


@dataclass(frozen=True)
class LabelRows:
    """
    Embeddings of labels that the source does not have itself.

    Args:
        embeddings: `(N, size)` float32, of the labels, then of those above them.
        origin: What they are, for people.
        are_given: Whether they come from a file and not from texts.
    """

    embeddings: torch.Tensor
    origin: str
    are_given: bool


def label_texts(config: FALConfig) -> list[str]:
    """The texts that stand for the labels and those above them."""
    return [config.label_prompt.replace("{}", name) for name in config.label_space.names]


def read_text_tower(source: Source, options: ConversionOptions) -> TextTower | None:
    """
    The text tower of a source whose labels are texts; None for a FAL model that came without one.

    Raises:
        ConversionError: it is damaged, belongs to another model, or is there without its tokenizer.
    """
    if source.layout is TRANSFORMERS_CLIP:
        folder, tensors = source.folder, source.native
        declared = cast(CLIPTextConfig, read_clip_config(source).text_config)
    else:
        folder = _find_text_folder(source, options.revision)
        if folder is None:
            return None
        where = folder / CONFIG_NAME
        tensors, _ = read_weights(find_weights(folder))
        declared = parse_config(where, read_json(where), CLIPTextConfig)
    state = text_tensors(tensors)
    config = find_text_config(folder, state, declared, size=source.config.label_embedding_size)
    tokenizer = read_tokenizer(folder, num_tokens=config.vocab_size)
    dtype = kept_dtype(state) if options.dtype_name is None else getattr(torch, options.dtype_name)
    model, info = load_model(CLIPTextModelWithProjection, config, state, dtype)
    if info["missing_keys"] or info["unexpected_keys"]:
        raise ConversionError(f"{folder}: expected every tensor of the text tower to be loaded, got {info}")
    return TextTower(TextEncoder(model.float(), tokenizer), dtype, folder)


def read_clip_config(source: Source) -> CLIPConfig:
    """The configuration of both towers of a CLIP; a ConversionError where it is that of the vision tower alone."""
    path = source.folder / CONFIG_NAME
    stored = read_json(path)
    if stored.get("model_type") != CLIPConfig.model_type:
        raise ConversionError(
            f"{path}: expected model_type clip, the configuration of two towers, beside the weights of a text tower, "
            f"got {stored.get('model_type')!r}"
        )
    return parse_config(path, stored, CLIPConfig)


def _find_text_folder(source: Source, revision: str | None) -> Path | None:
    """The folder with the text tower of a FAL model, downloaded for a Hub id."""
    folder = source.folder
    if source.hub_id is not None:
        patterns = [f"{TEXT_FOLDER}/{pattern}" for pattern in (*SIDE_FILES, "*.safetensors")]
        folder = download(source.hub_id, revision, patterns)
    return folder / TEXT_FOLDER if (folder / TEXT_FOLDER).is_dir() else None


def read_tokenizer(folder: Path, *, num_tokens: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, of at most so many tokens; a ConversionError where there is none."""
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZER_FILES):
        expected = " or ".join(" and ".join(names) for names in TOKENIZER_FILES)
        raise ConversionError(
            f"{folder}: expected a tokenizer beside the text tower, {expected}, got none; it is published with the "
            "model"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        size = len(tokenizer)
    except Exception as error:  # foreign files may fail in any way
        raise ConversionError(f"{folder}: expected the tokenizer of a CLIP, got {describe(error)}") from error
    if size > num_tokens:
        raise ConversionError(
            f"{folder}: expected a tokenizer of at most {num_tokens} tokens, which are those of the text tower, got "
            f"{size}; they belong to different models"
        )
    return tokenizer


def find_text_config(path: Path, tensors: Tensors, declared: CLIPTextConfig, *, size: int) -> CLIPTextConfig:
    """
    The configuration that the tensors of a text tower and what is declared beside them agree on, for embeddings of
    the size of images'. Its other settings are those of the class's own fields: none that chooses code to run.
    """
    vocabulary, width = shape_of(path, tensors, f"{TEXT_PREFIX}embeddings.token_embedding.weight", 2)
    layers = {int(match[1]) for name in tensors if (match := TEXT_LAYER.match(name))}
    measured = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "max_position_embeddings": shape_of(path, tensors, f"{TEXT_PREFIX}embeddings.position_embedding.weight", 2)[0],
        "intermediate_size": shape_of(path, tensors, f"{TEXT_PREFIX}encoder.layers.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": len(layers),
    }
    where = f"{path}: the text tower's configuration"
    require_agreement(where, known_fields(declared), measured, by="the weights")
    projected = shape_of(path, tensors, TEXT_PROJECTION, 2)[0]
    if projected != size:
        raise ConversionError(
            f"{path}: {TEXT_PROJECTION}: expected embeddings of the size of images', {size}, got {projected}"
        )
    try:
        settings: dict[str, Any] = known_fields(declared) | measured | {"projection_dim": size}
        config = CLIPTextConfig(**settings)
        with torch.device("meta"):
            expected = CLIPTextModelWithProjection(config).state_dict()
    except Exception as error:  # activations and heads that there are not
        raise ConversionError(f"{where}: {describe(error)}") from error
    _require_shapes(path, tensors, expected)
    return config


def known_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """What a configuration says in the fields of its class."""
    return {name: getattr(config, name) for name in type(config).__annotations__}


def _require_shapes(path: Path, tensors: Tensors, expected: Tensors) -> None:
    for name in sorted(tensors.keys() | expected.keys()):
        if name not in tensors or name not in expected:
            problem = "is missing" if name in expected else "expected no such tensor in a text tower"
            raise ConversionError(f"{path}: {name}: {problem}")
        if tensors[name].shape != expected[name].shape:
            shapes = tuple(expected[name].shape), tuple(tensors[name].shape)
            raise ConversionError(f"{path}: {name}: expected the shape {shapes[0]}, got {shapes[1]}")


__all__ = ["LabelRows", "TextTower", "find_text_config", "known_fields", "label_texts", "read_text_tower"]
