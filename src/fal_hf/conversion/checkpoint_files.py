"""
Files of foreign checkpoints, read without trust: what is damaged, declares more than it holds or would run code is
refused with the reason, as a [`ConversionError`] that names the file.
"""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.modeling_utils import load_state_dict
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from ..model import label_names
from ..model.label_space import shorten
from .errors import ConversionError
from .sources import PICKLE_SUFFIXES, WEIGHTS_SUFFIXES, require_name

# Where a folder has several, the first one counts; of other names there must be one file only.
WEIGHTS_NAMES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# Under which name a training script stores the weights among other things: the TimeSformer reference, DINO's training
# (of student and teacher the latter is the one that is evaluated), timm's and DeiT's.
STATE_DICT_NAMES = ("model_state", "teacher", "state_dict", "model")

# What is read of a repository beside weights, if it is there: configurations and tokenizers.
SIDE_FILES = ("*.json", "merges.txt")
# Weights of OpenCLIP and its configuration, which stand beside those of transformers in many repositories.
OPEN_CLIP_WEIGHTS, OPEN_CLIP_CONFIG = "open_clip_*", "open_clip_config.json"
OPEN_CLIP_ADVICE = (
    "the layout of OpenCLIP itself, which is not read; take the same model in transformers' layout (with a "
    "config.json of model_type clip), as most of its authors publish it, too"
)

# The numbers of positions, which old checkpoints of transformers store; of all tensors these alone may be integers.
POSITION_NUMBERS = re.compile(r"(^|\.)position_ids$")

# Of the tensor with the labels' embeddings, where a file has others as well.
EMBEDDINGS_NAME = "embeddings"


def find_checkpoint(source: str | PathLike, *, revision: str | None = None) -> Path:
    """
    A checkpoint's file or folder on this machine; that of a Hub id is downloaded, safetensors rather than pickles.

    Raises:
        ConversionError: if there is none.
    """
    path = Path(source)
    if path.exists():
        return path
    require_name(source)
    try:
        validate_repo_id(str(source))
    except HFValidationError as error:
        raise ConversionError(f"{source}: expected a file, a folder or a Hub id, got none of them") from error
    # sub-folders hold exports and other variants
    others = ["*/*", *(f"{OPEN_CLIP_WEIGHTS}{suffix}" for suffix in WEIGHTS_SUFFIXES)]
    folder = download(source, revision, [*SIDE_FILES, "*.safetensors"], but_not=others)
    if not any(folder.glob("*.safetensors")):
        pickles = [f"*{suffix}" for suffix in PICKLE_SUFFIXES]
        folder = download(source, revision, [*SIDE_FILES, *pickles], but_not=others)
    return folder


def download(
    source: str | PathLike, revision: str | None, patterns: list[str], *, but_not: Sequence[str] = ()
) -> Path:
    """The folder on this machine with the files of a Hub id that patterns name; a ConversionError without them."""
    options = {"revision": revision, "ignore_patterns": list(but_not)}
    try:
        return Path(snapshot_download(str(source), allow_patterns=patterns, **options))
    except Exception as error:  # the Hub, the network and the cache fail in many ways
        raise ConversionError(
            f"{source}: expected a file, a folder or a Hub id that can be downloaded, got {describe(error)}; check "
            "the name, and `hf auth whoami` for a private repository"
        ) from error


def find_weights(path: Path) -> Path:
    """The file with the weights, or with the index of their shards, of a checkpoint's file or folder."""
    if path.is_file():
        return path
    for name in WEIGHTS_NAMES:
        if (path / name).is_file():
            return path / name
    files = sorted(file for file in path.iterdir() if file.suffix in WEIGHTS_SUFFIXES and file.is_file())
    if not files and (path / OPEN_CLIP_CONFIG).is_file():
        raise ConversionError(f"{path}: {OPEN_CLIP_ADVICE}")
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ConversionError(
            f"{path}: expected {SAFE_WEIGHTS_NAME}, {WEIGHTS_NAME} or a single file of weights "
            f"({', '.join(WEIGHTS_SUFFIXES)}), got {found}; give the path of the file itself"
        )
    return files[0]


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """
    The tensors of a file or of all shards of an index, and what a training script stored beside them.

    Returns:
        Name to finite floating-point tensor (`POSITION_NUMBERS` may be integers), on the CPU, mapped from the file
        where its format allows; and the other entries of a pickle that holds more than tensors, the tensors under the
        name of "state_dict_name".

    Raises:
        ConversionError: for a file that is damaged or hostile, and for anything but such tensors in it.
    """
    if path.suffix == ".json":
        return _read_shards(path), {}
    content = _load(path)
    name = next((name for name in STATE_DICT_NAMES if isinstance(content.get(name), Mapping)), None)
    tensors = dict(content if name is None else content[name])
    for key, value in tensors.items():
        _require_weights(path, key, value)
    if not tensors:
        raise ConversionError(f"{path}: expected tensors, got an empty file")
    others = {} if name is None else {key: content[key] for key in content if key not in STATE_DICT_NAMES}
    return tensors, others | {"state_dict_name": name}


def _read_shards(index: Path) -> dict[str, torch.Tensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ConversionError(f'{index}: expected "weight_map", an object of tensor and file name')
    tensors = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name or Path(name).suffix not in WEIGHTS_SUFFIXES:
            raise ConversionError(f"{index}: expected names of files of weights beside it, got {name!r}")
        shard, _ = read_weights(index.with_name(name))
        if shard.keys() & tensors.keys():
            raise ConversionError(f"{index}: {', '.join(sorted(shard.keys() & tensors.keys()))}: in several shards")
        tensors |= shard
    if tensors.keys() != weight_map.keys():
        difference = sorted(tensors.keys() ^ weight_map.keys())
        raise ConversionError(
            f"{index}: expected the shards to hold what it lists, got a difference in {difference[0]}"
        )
    return tensors


def _load(path: Path) -> Mapping[str, Any]:
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise ConversionError(f"{path}: expected a file of weights ({', '.join(WEIGHTS_SUFFIXES)})")
    _require_stored(path)
    try:
        content = load_state_dict(path)  # pickles with weights_only
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        hint = (
            "; only tensors and plain values are unpickled, for a pickle may hold code: where you trust the file, "
            "save its state dict alone with safetensors.torch.save_file"
        )
        hint = hint if path.suffix in PICKLE_SUFFIXES else ""
        raise ConversionError(f"{path}: expected a file of weights, got {describe(error)}{hint}") from error
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ConversionError(f"{path}: expected names and tensors, got a {type(content).__name__}")
    return content


def _require_stored(path: Path) -> None:
    """torch stores its archives uncompressed; one that unpacks to more than its size is no work of torch."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ConversionError(
            f"{path}: expected an archive as torch.save writes it, got one of {path.stat().st_size} bytes that "
            f"declares {unpacked}"
        )


def _require_weights(path: Path, name: str, value: Any) -> None:
    """Refuses what is no tensor of numbers that is held in full."""
    if not isinstance(value, torch.Tensor):
        raise ConversionError(f"{path}: {name}: expected a tensor, got a {type(value).__name__}")
    shape = tuple(value.shape)
    dtypes = (*DTYPES, torch.int64, torch.int32) if POSITION_NUMBERS.search(name) else DTYPES
    if value.layout != torch.strided or value.is_meta or value.dtype not in dtypes:
        raise ConversionError(
            f"{path}: {name}: expected floating-point numbers, got {value.dtype} of layout {value.layout} on "
            f"the device {value.device}; convert the checkpoint before it was quantized or otherwise packed"
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes() or value.numel() == 0:
        raise ConversionError(
            f"{path}: {name}: expected all numbers of its shape {shape}, got "
            f"{value.untyped_storage().nbytes()} bytes of {value.dtype}"
        )
    if not torch.isfinite(value).all():
        raise ConversionError(f"{path}: {name}: expected finite numbers, got NaN or infinity; the training diverged")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; a ConversionError where the file holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path}: expected a JSON file, got {describe(error)}") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    return content


def describe(error: Exception) -> str:
    """The first line of what an error says, and what it is."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


# ---- labels ----


def read_labels(path: str | PathLike) -> list[str]:
    """As `label_names.read_labels`, with a ConversionError of whatever is wrong."""
    try:
        return label_names.read_labels(path)
    except ValueError as error:
        raise ConversionError(str(error)) from error


def read_label_embeddings(path: str | PathLike) -> torch.Tensor:
    """
    Embeddings of labels, `(N, size)` float32.

    Args:
        path: A `.safetensors` file with the tensor `embeddings`, or a single one: a row for each label.

    Raises:
        ConversionError: for other files, tensors of other shapes and numbers that are not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ConversionError(f"{path}: expected embeddings of labels in a .safetensors file")
    tensors = _load(path)
    name = EMBEDDINGS_NAME if len(tensors) > 1 else next(iter(tensors), EMBEDDINGS_NAME)
    if name not in tensors:
        found = ", ".join(sorted(tensors)) or "none"
        raise ConversionError(f"{path}: expected a single tensor, or one with the name {name}; got {found}")
    _require_weights(path, name, tensors[name])
    if tensors[name].ndim != 2:
        shape = tuple(tensors[name].shape)
        raise ConversionError(f"{path}: {name}: expected a row for each label, two axes, got the shape {shape}")
    return tensors[name].float()


__all__ = [
    "OPEN_CLIP_ADVICE",
    "POSITION_NUMBERS",
    "SIDE_FILES",
    "describe",
    "download",
    "find_checkpoint",
    "find_weights",
    "read_json",
    "read_label_embeddings",
    "read_labels",
    "read_weights",
    "shorten",
]
