"""A collection on a Ray cluster: decoders on CPUs, models on GPUs, the same messages and records as on one machine.

Ray Data moves the messages of `decoding` between the stages as rows with the message in a column of bytes. They come
to the driver in any order, which puts each video's own in theirs and makes its record as soon as it is complete.
"""

import copy
import logging
import math
import os
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..labeling.labeler import VideoLabeler
from ..labeling.records import Record
from ..labeling.views import ViewReader
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from ..model.onednn import CHOICE, choose_library
from .collection import collect_records, score_message
from .decoding import decode_videos
from .inputs import VideoInput
from .limits import DecodeLimits
from .messages import DecoderMessage, ScoredMessage
from .recorders import Recorder

if TYPE_CHECKING:
    import ray

# Videos that a decoder takes at a time, and messages that a model takes at a time.
VIDEOS_AT_ONCE = 4
MESSAGES_AT_ONCE = 4

Rows = dict[str, np.ndarray]


def record_on_ray(
    recorder: Recorder,
    videos: Iterable[VideoInput],
    *,
    num_workers: int | None = None,
    limits: DecodeLimits | None = None,
) -> Iterator[tuple[VideoInput, Record]]:
    """
    Labels or embeds videos on the cluster that `RAY_ADDRESS` names, or on one that is started on this machine.

    Args:
        recorder: Says what is made of them; its model is sent to the cluster, one copy a GPU, or one in all without
            GPUs.
        videos: What to read; every machine must reach the files by the same names.
        num_workers: Decoders; None: one a CPU of the cluster, but for the model's.
        limits: What one video may take in a decoder.

    Yields:
        Each video with its record, as [`record_collection`] does.

    Raises:
        ImportError: Ray is not installed (`pip install fal-hf[ray]`).
    """
    import ray
    import ray.data

    known = dict(enumerate(videos))
    if not known:
        return
    ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    resources = ray.cluster_resources()
    num_gpus = int(resources.get("GPU", 0))
    num_workers = num_workers or max(1, int(resources["CPU"]) - 1)
    portable = _copy_to_cpu(recorder.labeler)
    reader = copy.copy(portable.reader)
    reader.num_threads = 1  # the CPU that a decoding actor asks for
    rows = [{"place": place, "video": pickle.dumps(video)} for place, video in known.items()]
    library = choose_library(portable.model.config, portable.model.device, portable.model.dtype)
    messages = (
        # Blocks from the beginning: to divide them later needs a CPU that the actors may have taken.
        ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / VIDEOS_AT_ONCE))
        .map_batches(
            _Decoder,
            fn_constructor_args=(reader, limits or DecodeLimits()),
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            batch_size=VIDEOS_AT_ONCE,
            num_cpus=1,
        )
        .map_batches(
            _Scorer,
            fn_constructor_args=(ray.put(replace(recorder, labeler=portable)), torch.get_num_threads(), library),
            compute=ray.data.ActorPoolStrategy(size=max(1, num_gpus)),
            batch_size=MESSAGES_AT_ONCE,
            num_gpus=1 if num_gpus else None,
            num_cpus=None if num_gpus else 1,
        )
    )
    yield from collect_records(recorder, _in_order(messages.iter_rows(), known))


def _copy_to_cpu(labeler: VideoLabeler) -> VideoLabeler:
    """What can be sent to any machine."""
    portable = copy.copy(labeler)
    portable.model = copy.deepcopy(labeler.model).cpu()
    if isinstance(portable.model, FALVideoClassifierForVideoClassification):
        portable.model.text_encoder = None  # which has done its part
    return portable


class _Decoder:
    """An actor whose videos are decoded in a process of its own, which can be killed."""

    def __init__(self, reader: ViewReader, limits: DecodeLimits):
        self.reader, self.limits = reader, limits

    def __call__(self, rows: Rows) -> Iterator[Rows]:
        videos = [pickle.loads(video) for video in rows["video"]]
        places = dict(zip((video.key for video in videos), rows["place"].tolist(), strict=True))
        numbers = dict.fromkeys(places, 0)
        for video, message in decode_videos(videos, self.reader, num_workers=1, limits=self.limits):
            yield _row(places[video.key], numbers[video.key], video, message)
            numbers[video.key] += 1


class _Scorer:
    """An actor that holds the model."""

    def __init__(self, recorder: "ray.ObjectRef[Recorder]", num_threads: int, library: str):
        import ray

        # Another number of threads, or another library, may add up the same numbers in another order.
        torch.set_num_threads(num_threads)
        os.environ[CHOICE] = library
        self.recorder = ray.get(recorder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.recorder.labeler.model.to(device)  # pyright: ignore[reportArgumentType]  # the hint of a decorator counts `self`

    def __call__(self, rows: Rows) -> Iterator[Rows]:
        for place, number, pickled in zip(rows["place"], rows["number"], rows["message"], strict=True):
            video, message = pickle.loads(pickled)
            yield _row(place, number, video, score_message(self.recorder, video, message))


def _row(place: int, number: int, video: VideoInput, message: DecoderMessage | ScoredMessage) -> Rows:
    pickled = np.array([pickle.dumps((video, message))], dtype=object)
    return {"place": np.array([place]), "number": np.array([number]), "message": pickled}


def _in_order(
    rows: Iterable[dict[str, Any]], videos: dict[int, VideoInput]
) -> Iterator[tuple[VideoInput, ScoredMessage]]:
    """The messages of each video in the order in which it was decoded."""
    waiting: dict[int, dict[int, bytes]] = {place: {} for place in videos}
    following = dict.fromkeys(videos, 0)
    for row in rows:
        place = row["place"]
        waiting[place][row["number"]] = row["message"]
        while (message := waiting[place].pop(following[place], None)) is not None:
            following[place] += 1
            yield pickle.loads(message)


__all__ = ["record_on_ray"]
