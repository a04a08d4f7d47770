"""A collection of videos to their records: workers decode, the model scores, and whatever a file does is recorded."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from .decoding import DecodeLimits, decode_videos
from .inputs import VideoInput, reason_of
from .labeling import SCHEMA_VERSION, VideoLabeler

# What a configuration says of its file and of the library that wrote it, and not of the model.
UNRELATED_KEYS = ("_name_or_path", "transformers_version")

Record = dict[str, Any]


def label_collection(
    labeler: VideoLabeler,
    videos: Iterable[VideoInput],
    *,
    top_k: int = 5,
    num_workers: int = 0,
    limits: DecodeLimits | None = None,
) -> Iterator[tuple[VideoInput, Record]]:
    """
    Labels videos as they are decoded.

    A video's record depends on nothing but the video, the model and the options: its clips go through the model by
    themselves, in batches that the decoder forms.

    Args:
        labeler: Labels them.
        videos: What to label.
        top_k: How many labels a video, and a window, has at most.
        num_workers: Processes that decode; 0: this one, without limits.
        limits: What one video may take in a worker.

    Yields:
        Each video with its record, in the order in which they are done: what `VideoLabels.to_dict` returns, or
        `{"video": ..., "error": ..., "schema_version": 1}`.
    """
    messages = decode_videos(videos, labeler.reader, num_workers=num_workers, limits=limits)
    return collect_records(labeler, messages, top_k=top_k)


def collect_records(
    labeler: VideoLabeler, messages: Iterable[tuple[VideoInput, str, Any]], *, top_k: int
) -> Iterator[tuple[VideoInput, Record]]:
    """Scores the batches of videos as they come, and yields a video's record with its last message."""
    begun: dict[str, _Scored] = {}
    for video, kind, value in messages:
        scored = begun.setdefault(video.key, _Scored(labeler, video, top_k))
        scored.take(kind, value)
        if kind in ("end", "failed"):
            yield video, begun.pop(video.key).record()


class _Scored:
    """What is known of a video so far."""

    def __init__(self, labeler: VideoLabeler, video: VideoInput, top_k: int):
        self.labeler, self.video, self.top_k = labeler, video, top_k
        self.clips = None
        self.scores: list[torch.Tensor] = []
        self.error: str | None = None

    def take(self, kind: str, value: Any) -> None:
        if kind == "clips":
            self.clips = value
        elif kind == "failed":
            self.error = value
        elif kind == "batch" and self.error is None:
            try:
                self.scores.append(self.labeler.score(value))
            except Exception as error:  # out of memory, or a frame size that this model cannot take
                self.error = reason_of(error, self.video.name)

    def record(self) -> Record:
        if self.error is not None:
            return {"video": self.video.name, "error": self.error, "schema_version": SCHEMA_VERSION}
        return self.labeler.summarise(self.video.name, self.clips, self.scores, top_k=self.top_k).to_dict()


def describe_run(labeler: VideoLabeler, *, top_k: int) -> dict[str, Any]:
    """
    What the records of a run depend on, as JSON values by name: the model with its weights, and the options.

    How fast they come (workers, batches, device) is left out.
    """
    config = labeler.model.config.to_dict()
    return {
        "weights": hash_weights(labeler.model),
        "config": {name: value for name, value in config.items() if name not in UNRELATED_KEYS},
        "processor": labeler.processor.to_dict(),
        "dtype": str(labeler.model.dtype).removeprefix("torch."),
        "views": asdict(labeler.views),
        "timeline": asdict(labeler.timeline),
        "hierarchy": labeler.hierarchy and labeler.hierarchy.parents,
        "top_k": top_k,
        "schema_version": SCHEMA_VERSION,
    }


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["describe_run", "label_collection"]
