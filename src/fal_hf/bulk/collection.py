"""A collection of videos to their records: workers decode, the model scores, and whatever a file does is recorded."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from ..labeling.labeler import SCHEMA_VERSION, VideoLabeler
from .decoding import LAST_KINDS, DecodeLimits, Message, decode_videos
from .inputs import VideoInput, reason_of

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
    scored = ((video, *score_message(labeler, video, kind, value)) for video, kind, value in messages)
    return collect_records(labeler, scored, top_k=top_k)


def score_message(labeler: VideoLabeler, video: VideoInput, kind: str, value: Any) -> Message:
    """A message of the decoder with "scores" in place of a "batch", or with an "error" where the model fails on it."""
    if kind != "batch":
        return kind, value
    try:
        return "scores", labeler.score(value)
    except Exception as error:  # out of memory, or a frame size that this model cannot take
        return "error", reason_of(error, video.name)


def collect_records(
    labeler: VideoLabeler, messages: Iterable[tuple[VideoInput, str, Any]], *, top_k: int
) -> Iterator[tuple[VideoInput, Record]]:
    """Gathers the scored messages of videos, and yields a video's record with its last message."""
    begun: dict[str, dict[str, list]] = {}
    for video, kind, value in messages:
        said = begun.setdefault(video.key, defaultdict(list))
        said[kind].append(value)
        if kind in LAST_KINDS:
            yield video, _make_record(labeler, video, begun.pop(video.key), top_k)


def _make_record(labeler: VideoLabeler, video: VideoInput, said: dict[str, list], top_k: int) -> Record:
    errors = [*said["error"], *said["failed"]]
    if errors:
        return {"video": video.name, "error": errors[0], "schema_version": SCHEMA_VERSION}
    return labeler.summarize(video.name, said["clips"][0], said["scores"], top_k=top_k).to_dict()


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
