"""What the records of a run depend on, by which a journal knows its run again."""

from dataclasses import asdict
from typing import Any, cast

from ..labeling.fingerprints import hash_weights
from ..labeling.labeler import VideoLabeler
from ..labeling.records import SCHEMA_VERSION
from ..model.text_encoder import TextEncoder

# What a configuration says of its file and of the library that wrote it, and not of the model.
UNRELATED_KEYS = ("_name_or_path", "transformers_version")
# What a text tower computes from labels: other machines, and other numbers of threads, round it otherwise.
COMPUTED_WEIGHT = "fal.label_embeddings.embeddings.weight"


def describe_run(labeler: VideoLabeler, *, top_k: int) -> dict[str, Any]:
    """
    What the records of a run depend on, as JSON values by name: the model with its weights, and the options.

    How fast they come (workers, batches, device) is left out.
    """
    config, weights = labeler.model.config.to_dict(), labeler.model.state_dict()
    text_weights = {}
    if labeler.has_given_labels:
        del weights[COMPUTED_WEIGHT]
        text_weights = {"text_weights": hash_weights(cast(TextEncoder, labeler.model.text_encoder).model.state_dict())}
    patches, changed = labeler.model.fal.embeddings.adaptive_patches, {}
    if patches != labeler.model.config.adaptive_patches:
        changed = {"adaptive_patches": patches and asdict(patches)}
    return {
        "weights": hash_weights(weights),
        **text_weights,
        "config": {name: value for name, value in config.items() if name not in UNRELATED_KEYS},
        "processor": labeler.processor.to_dict(),
        "dtype": str(labeler.model.dtype).removeprefix("torch."),
        "views": asdict(labeler.views),
        **changed,
        "timeline": asdict(labeler.timeline),
        "hierarchy": labeler.hierarchy and labeler.hierarchy.parents,
        "top_k": top_k,
        "schema_version": SCHEMA_VERSION,
    }


__all__ = ["describe_run"]
