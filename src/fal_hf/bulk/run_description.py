"""What the records of a run depend on, by which a journal knows its run again."""

import hashlib
from collections.abc import Collection
from dataclasses import asdict
from typing import Any, cast

import torch

from ..labeling.labeler import VideoLabeler
from ..labeling.records import SCHEMA_VERSION
from ..model.text_encoder import TextEncoder

# What a configuration says of its file and of the library that wrote it, and not of the model.
UNRELATED_KEYS = ("_name_or_path", "transformers_version")
# What a text tower computes from labels: other machines, and other numbers of threads, round it otherwise.
COMPUTED_WEIGHTS = frozenset({"fal.label_embeddings.embeddings.weight"})


def describe_run(labeler: VideoLabeler, *, top_k: int) -> dict[str, Any]:
    """
    What the records of a run depend on, as JSON values by name: the model with its weights, and the options.

    How fast they come (workers, batches, device) is left out.
    """
    config = labeler.model.config.to_dict()
    if labeler.has_given_labels:
        text_encoder = cast(TextEncoder, labeler.model.text_encoder)
        weights = {
            "weights": hash_weights(labeler.model, leave_out=COMPUTED_WEIGHTS),
            "text_weights": hash_weights(text_encoder.model),
        }
    else:
        weights = {"weights": hash_weights(labeler.model)}
    return {
        **weights,
        "config": {name: value for name, value in config.items() if name not in UNRELATED_KEYS},
        "processor": labeler.processor.to_dict(),
        "dtype": str(labeler.model.dtype).removeprefix("torch."),
        "views": asdict(labeler.views),
        "timeline": asdict(labeler.timeline),
        "hierarchy": labeler.hierarchy and labeler.hierarchy.parents,
        "top_k": top_k,
        "schema_version": SCHEMA_VERSION,
    }


def hash_weights(model: torch.nn.Module, *, leave_out: Collection[str] = ()) -> str:
    """SHA-256 over the names, types, shapes and values of a model's weights, but for some of these names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in leave_out:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["describe_run"]
