"""Labels as tokens, as options of a conversion or a training name them."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Protocol, cast

import torch

from ..model.configuration_fal import FALConfig
from ..model.label_attention import FALLabelEmbeddings
from ..model.label_space import LabelSpace, read_parents
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from .checkpoint_files import read_label_embeddings, shorten
from .errors import ConversionError

# The fields of a configuration that say what they are; other labels have other embeddings.
LABEL_FIELDS = (
    "label_attention",
    "label_integration_layer",
    "label_embedding_size",
    "label_gates",
    "label_hierarchy",
    "id2label",
)
# The beginnings of the names of weights that labels as tokens have.
LABEL_WEIGHTS = ("fal.label_embeddings.", "fal.label_layers.", "label_head.")


class LabelOptions(Protocol):
    """What can be said of labels as tokens; None is what the checkpoint has."""

    @property
    def label_attention(self) -> str | None: ...
    @property
    def label_integration_layer(self) -> int | None: ...
    @property
    def hierarchy(self) -> str | PathLike | None: ...
    @property
    def label_embeddings(self) -> str | PathLike | None: ...


def label_fields(
    config: FALConfig, options: LabelOptions, labels: Sequence[str]
) -> tuple[dict[str, Any], torch.Tensor | None]:
    """
    What options change of a configuration for some labels, in the order of the model's scores, and the labels'
    embeddings, `(N, size)` float32. For other labels than the configuration's its hierarchy does not hold.

    Raises:
        ConversionError: a file cannot be read, holds something else or does not fit the labels.
    """
    given = {name: getattr(options, name) for name in ("label_attention", "label_integration_layer")}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if fields.get("label_attention", config.label_attention) == "none":
        _refuse_without_tokens(config, options)
    hierarchy, embeddings = read_label_files(options)
    if hierarchy is None and sorted((config.id2label or {}).values()) == sorted(labels):
        hierarchy = config.label_hierarchy
    try:
        space = LabelSpace.of(labels, hierarchy)
    except ValueError as error:
        raise ConversionError(f"{options.hierarchy}: {error}") from error
    fields["label_hierarchy"] = hierarchy
    if embeddings is not None:
        if len(embeddings) != len(space.names):
            raise ConversionError(
                f"{options.label_embeddings}: expected a row for each of {len(space.names)} labels "
                f"({shorten(space.names)}), got the shape {tuple(embeddings.shape)}"
            )
        fields["label_embedding_size"] = embeddings.shape[1]
    return fields, embeddings


def _refuse_without_tokens(config: FALConfig, options: LabelOptions) -> None:
    for name in ("label_integration_layer", "label_embeddings"):
        is_compared = name == "label_embeddings" and config.classifier_type == "similarity"
        if getattr(options, name) is not None and not is_compared:
            raise ConversionError(f"{name}: expected label_attention with it, label, unified or divided")


def read_label_files(options: LabelOptions) -> tuple[dict[str, str] | None, torch.Tensor | None]:
    """The hierarchy and the embeddings of the files that options name; a ConversionError where they hold others."""
    hierarchy = None if options.hierarchy is None else read_hierarchy(options.hierarchy)
    embeddings = None if options.label_embeddings is None else read_label_embeddings(options.label_embeddings)
    return hierarchy, embeddings


def read_hierarchy(path: str | PathLike) -> dict[str, str]:
    """As `read_parents`, with a ConversionError of whatever is wrong."""
    try:
        return read_parents(path)
    except OSError as error:
        raise ConversionError(f"{path}: expected a JSON file of label and parent, got {error.strerror}") from error
    except ValueError as error:
        raise ConversionError(str(error)) from error


@torch.no_grad()
def set_label_embeddings(model: FALVideoClassifierForVideoClassification, embeddings: torch.Tensor) -> None:
    """Gives the label tokens of a model their embeddings, `(N, size)`."""
    tokens = cast(FALLabelEmbeddings, model.fal.label_embeddings)
    tokens.embeddings.weight.copy_(embeddings)


__all__ = ["LABEL_FIELDS", "LABEL_WEIGHTS", "LabelOptions", "label_fields", "read_label_files", "set_label_embeddings"]
