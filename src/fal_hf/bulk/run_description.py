"""What the records of a run depend on, by which a journal knows its run again."""

from dataclasses import asdict
from typing import Any, cast

from ..labeling.fingerprints import hash_weights
from ..labeling.labeler import VideoLabeler
from ..labeling.records import SCHEMA_VERSION
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from ..model.text_encoder import TextEncoder
from ..runtimes.exported_classifier import ExportedClassifier
from ..runtimes.loading import Classifier

# What a configuration says of its file and of the library that wrote it, and not of the model.
UNRELATED_KEYS = ("_name_or_path", "transformers_version")
# What a text tower computes from labels: other machines, and other numbers of threads, round it otherwise.
COMPUTED_WEIGHT = "fal.label_embeddings.embeddings.weight"


def describe_run(labeler: VideoLabeler, *, top_k: int) -> dict[str, Any]:
    """
    What the records of a run depend on, as JSON values by name: the model with its weights, and the options.

    How fast they come (workers, batches, device) is left out.
    """
    return {
        **describe_clips(labeler),
        "timeline": asdict(labeler.timeline),
        "hierarchy": labeler.hierarchy and labeler.hierarchy.parents,
        "top_k": top_k,
        "schema_version": SCHEMA_VERSION,
    }


def describe_embedding_run(labeler: VideoLabeler) -> dict[str, Any]:
    """The same of a run that embeds videos; no journal of labels has its key `records`."""
    return {"records": "embeddings", **describe_clips(labeler), "schema_version": SCHEMA_VERSION}


def describe_clips(labeler: VideoLabeler) -> dict[str, Any]:
    """What a model says of clips, and of which, depends on this."""
    config = {key: value for key, value in labeler.model.config.to_dict().items() if key not in UNRELATED_KEYS}
    if config["temperature"] == 1:
        del config["temperature"]  # which runs from before it was there did not know
    views = asdict(labeler.views)
    if labeler.views.reuse_static is None:
        del views["reuse_static"]  # which runs from before it was there did not know
    return {
        **describe_weights(labeler),
        "config": config,
        "processor": labeler.processor.to_dict(),
        "dtype": str(labeler.model.dtype).removeprefix("torch."),
        "views": views,
        **describe_patches(labeler.model),
    }


def describe_weights(labeler: VideoLabeler) -> dict[str, str]:
    """What the scores of a clip depend on: the weights and, of an exported folder, what runs them."""
    if labeler.runtime is not None:
        folder, record = labeler.runtime
        return {"weights": folder.hash_files(record), "runtime": record.name}
    model = cast(FALVideoClassifierForVideoClassification, labeler.model)
    weights = model.state_dict()
    if not labeler.has_given_labels:
        return {"weights": hash_weights(weights)}
    del weights[COMPUTED_WEIGHT]
    text_encoder = cast(TextEncoder, model.text_encoder)
    return {"weights": hash_weights(weights), "text_weights": hash_weights(text_encoder.model.state_dict())}


def describe_patches(model: Classifier) -> dict[str, Any]:
    """The patches that a model takes, where they are not those of its configuration."""
    if isinstance(model, ExportedClassifier):
        return {}
    patches = model.fal.embeddings.adaptive_patches
    return {} if patches == model.config.adaptive_patches else {"adaptive_patches": patches and asdict(patches)}


__all__ = ["describe_embedding_run", "describe_run"]
