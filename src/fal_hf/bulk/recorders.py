"""What a run makes of each video: labels, or an embedding. All else of a run is the same for both."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..labeling.embedding_files import EmbeddingModel, write_embeddings
from ..labeling.embeddings import summarize_embeddings
from ..labeling.label_files import write_labels
from ..labeling.labeler import DEFAULT_CHECKPOINT, VideoLabeler
from ..labeling.records import Record, is_embedding_record, is_record
from ..labeling.views import ViewLayout
from .run_description import describe_embedding_run, describe_run


@dataclass(frozen=True)
class Recorder(ABC):
    """
    Makes the record of a video from its clips.

    Args:
        labeler: Its reader says which clips, its model what is known of them.
    """

    labeler: VideoLabeler

    @abstractmethod
    def score(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        """What the model says of some clips, as a `ViewReader` yields them: `(clips, N)` float32, on the CPU."""

    @abstractmethod
    def make_record(
        self, video: str, layout: ViewLayout, scores: Sequence[torch.Tensor], reused: Sequence[int]
    ) -> Record:
        """The record of a video from what was said of its batches, and the windows that take over an earlier one's."""

    @abstractmethod
    def is_record(self, value: Any) -> bool:
        """Whether a JSON value, read from a file that may be damaged, is such a record, or that of a failure."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the records depend on, as JSON values by name; how fast they come is left out."""

    @abstractmethod
    def write(self, output: str | os.PathLike, records: Iterable[Record]) -> list[Path]:
        """Writes records to a file of a run; returns what was written."""


@dataclass(frozen=True)
class LabelRecorder(Recorder):
    """
    Labels videos.

    Args:
        labeler: Labels them.
        top_k: How many labels a video, and a window, has at most.
    """

    top_k: int = 5

    def score(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        return self.labeler.score(batch)

    def make_record(
        self, video: str, layout: ViewLayout, scores: Sequence[torch.Tensor], reused: Sequence[int]
    ) -> Record:
        return self.labeler.summarize(video, layout, scores, reused=reused, top_k=self.top_k).to_dict()

    def is_record(self, value: Any) -> bool:
        return is_record(value)

    def describe(self) -> dict[str, Any]:
        return describe_run(self.labeler, top_k=self.top_k)

    def write(self, output: str | os.PathLike, records: Iterable[Record]) -> list[Path]:
        return write_labels(output, records)


@dataclass(frozen=True)
class EmbeddingRecorder(Recorder):
    """
    Embeds videos, see `VideoLabeler.embed`.

    Raises:
        ValueError: the labeler's model is an exported runtime, which has scores alone.
    """

    def __post_init__(self):
        self.labeler.check_embeddings()

    def score(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        return self.labeler.embed_clips(batch)

    def make_record(
        self, video: str, layout: ViewLayout, scores: Sequence[torch.Tensor], reused: Sequence[int]
    ) -> Record:
        return summarize_embeddings(video, layout, scores, reused).to_dict()

    def is_record(self, value: Any) -> bool:
        return is_embedding_record(value, size=self.labeler.model.config.hidden_size)

    def describe(self) -> dict[str, Any]:
        return describe_embedding_run(self.labeler)

    def write(self, output: str | os.PathLike, records: Iterable[Record]) -> list[Path]:
        return write_embeddings(output, records, self.describe_model())

    def describe_model(self) -> EmbeddingModel:
        """What a file says of the model; what its labels are is no matter."""
        made_by = {name: value for name, value in self.describe().items() if name not in ("config", "schema_version")}
        size = self.labeler.model.config.hidden_size
        return EmbeddingModel(size=size, made_by=made_by, name=_name_of(self.labeler))


def _name_of(labeler: VideoLabeler) -> str | None:
    """By which a model is found again, wherever that is asked: its Hub id, or the whole path of its folder."""
    name = labeler.model.config.name_or_path or "" if labeler.runtime is None else str(labeler.runtime[0].path)
    path = os.path.realpath(name)
    if not name or path == os.path.realpath(DEFAULT_CHECKPOINT):
        return None
    return path if os.path.isdir(path) else name


__all__ = ["EmbeddingRecorder", "LabelRecorder", "Recorder"]
