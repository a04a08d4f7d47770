"""A collection of videos to their records: workers decode, the model scores, and whatever a file does is recorded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from ..labeling.labeler import VideoLabeler
from ..labeling.records import Record, failed_record
from .decoding import decode_videos
from .inputs import VideoInput, reason_of
from .limits import DecodeLimits
from .messages import (
    Batch,
    DecoderMessage,
    Ended,
    Failed,
    Opened,
    Reused,
    Scored,
    ScoredMessage,
    ScoringFailed,
    is_last,
)
from .recorders import LabelRecorder, Recorder


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
    return record_collection(LabelRecorder(labeler, top_k), videos, num_workers=num_workers, limits=limits)


def record_collection(
    recorder: Recorder,
    videos: Iterable[VideoInput],
    *,
    num_workers: int = 0,
    limits: DecodeLimits | None = None,
) -> Iterator[tuple[VideoInput, Record]]:
    """As [`label_collection`], for any kind of records."""
    messages = decode_videos(videos, recorder.labeler.reader, num_workers=num_workers, limits=limits)
    scored = ((video, score_message(recorder, video, message)) for video, message in messages)
    return collect_records(recorder, scored)


def score_message(recorder: Recorder, video: VideoInput, message: DecoderMessage) -> ScoredMessage:
    """A message of the decoder with what the model says in place of a batch."""
    if not isinstance(message, Batch):
        return message
    try:
        return Scored(recorder.score(message.views))
    except Exception as error:  # out of memory, or a frame size that this model cannot take
        return ScoringFailed(reason_of(error, video.name))


def collect_records(
    recorder: Recorder, messages: Iterable[tuple[VideoInput, ScoredMessage]]
) -> Iterator[tuple[VideoInput, Record]]:
    """Gathers the scored messages of videos, and yields a video's record with its last message."""
    begun: dict[str, _Gathered] = {}
    for video, message in messages:
        begun.setdefault(video.key, _Gathered()).add(message)
        if is_last(message):
            yield video, begun.pop(video.key).make_record(recorder, video)


@dataclass
class _Gathered:
    """What has been said of a video so far."""

    opened: Opened = field(init=False)  # comes first of a video that does not fail
    scores: list[torch.Tensor] = field(default_factory=list)
    reused: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, message: ScoredMessage) -> None:
        match message:
            case Opened():
                self.opened = message
            case Scored(scores):
                self.scores.append(scores)
            case Reused(number):
                self.reused.append(number)
            case ScoringFailed(reason) | Failed(reason):
                self.errors.append(reason)
            case Ended():
                pass
            case _:
                raise TypeError(f"expected a scored message, got {type(message).__name__}")

    def make_record(self, recorder: Recorder, video: VideoInput) -> Record:
        if self.errors:
            return failed_record(video.name, self.errors[0], video.stretch)
        return recorder.make_record(video.name, self.opened.layout, self.scores, self.reused)


__all__ = ["collect_records", "label_collection", "record_collection", "score_message"]
