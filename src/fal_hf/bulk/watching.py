"""Cameras, network streams and files in real time: a sliding window a stream, all streams in one batch.

Each stream is decoded by a thread of its own, which brings the frames that a clip needs to the model's size as they
come and keeps those of one window. The model takes the newest window of each stream whenever it is free: where it is
too slow, the frames in between are dropped, so that labels are never later than the model's own time for two batches.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..labeling.labeler import Label, VideoLabeler, best_labels
from ..labeling.records import SCHEMA_VERSION
from ..labeling.views import default_window_seconds
from ..model.video_file import live_frames
from .inputs import describe_error
from .watch_checks import check_watch

# A decoder that is further behind than this leaves frames out before it makes pictures of them.
MAX_LAG_SECONDS = 0.5


@dataclass(frozen=True)
class WatchedWindow:
    """
    The labels of one window of a stream.

    Args:
        source: As it was given.
        start_seconds: When the window's first frame was on display, after the stream's first frame.
        end_seconds: When its last one was.
        labels: The best labels, by falling score.
        latency_seconds: From the arrival of the window's last frame to its labels.
        drop_rate: Share of the frames so far, of those that a clip needs, that no window held.
        is_reused: Whether the labels are those of an earlier window, which showed the same.
    """

    source: str
    start_seconds: float
    end_seconds: float
    labels: list[Label]
    latency_seconds: float
    drop_rate: float
    is_reused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The same as a dictionary that `json.dumps` takes, with `schema_version` in it."""
        return {**asdict(self), "schema_version": SCHEMA_VERSION}


@dataclass(frozen=True)
class EndOfStream:
    """A stream that has ended; `error` says why where it did not end by itself."""

    source: str
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """The same as a dictionary that `json.dumps` takes, with `schema_version` in it."""
        return {**asdict(self), "schema_version": SCHEMA_VERSION}


def watch(
    labeler: VideoLabeler,
    sources: Sequence[str],
    *,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    reconnect_seconds: float | None = None,
    reuse_static: float | None = None,
    top_k: int = 5,
) -> Iterator[WatchedWindow | EndOfStream]:
    """
    Labels streams as they come, until all of them have ended. A stream that is shorter than a window gives one window
    of what it has.

    Args:
        labeler: Labels them, by one clip of one crop a window.
        sources: 1 to 8 paths of files, which are played at their own speed, cameras (`/dev/video0`, or `camera:` and
            the system's name of one) or URLs (`rtsp`, `rtmp`, `srt`, `udp`, `tcp`; an `http` one is played at its own
            speed as a file is).
        window_seconds: Length of a window; None: of a clip where the checkpoint names a distance of the frames, else
            10 seconds.
        hop_seconds: Distance of two windows' ends where the machine keeps up; None: half a window.
        reconnect_seconds: How long after its end or failure a source is opened again, its times from 0 on; None:
            it is not.
        reuse_static: By how many levels a window may differ from the last one of its stream that was scored to take
            over its labels, as in [`Views`]; None: all windows are scored.
        top_k: How many labels a window has at most.

    Yields:
        Windows as they are labeled, and an end for each stream, each time it ends.

    Raises:
        ValueError: too few or too many sources, a URL of another scheme, lengths that are not positive and finite, or
            levels that no pixels have.
    """
    check_watch(
        sources,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        reconnect_seconds=reconnect_seconds,
        reuse_static=reuse_static,
    )
    if window_seconds is None:
        window_seconds = default_window_seconds(labeler.processor)
    hop_seconds = window_seconds / 2 if hop_seconds is None else hop_seconds
    news = threading.Event()

    def make_stream(source: str, *, delay_seconds: float = 0.0) -> _Stream:
        return _Stream(source, labeler, window_seconds, hop_seconds, reuse_static, news, delay_seconds)

    streams = [make_stream(source) for source in sources]
    try:
        for stream in streams:
            stream.start()
        while streams:
            news.wait()
            news.clear()
            ended = [stream for stream in streams if stream.is_read]
            yield from _label_newest(labeler, streams, top_k)
            for stream in ended:
                streams.remove(stream)
                if reconnect_seconds is not None:
                    streams.append(make_stream(stream.source, delay_seconds=reconnect_seconds))
                    streams[-1].start()
                yield EndOfStream(stream.source, stream.error)
    finally:
        for stream in streams:
            stream.stop()


def _label_newest(labeler: VideoLabeler, streams: list["_Stream"], top_k: int) -> Iterator[WatchedWindow]:
    """One batch of the newest window of each stream that has a new one, but for those in which nothing is new."""
    windows = [(stream, window) for stream in streams if (window := stream.take_newest()) is not None]
    changed = {stream: window for stream, window in windows if not stream.is_static(window)}
    if changed:
        clips = torch.stack([torch.stack([frame.pixels for frame in window], dim=1) for window in changed.values()])
        for stream, scores in zip(changed, labeler.score([clips.numpy()]), strict=True):
            stream.scores = scores
    for stream, window in windows:
        yield WatchedWindow(
            source=stream.source,
            start_seconds=window[0].seconds,
            end_seconds=window[-1].seconds,
            labels=best_labels(labeler.names, stream.scores, top_k),
            latency_seconds=time.monotonic() - window[-1].arrived,
            drop_rate=stream.drop_rate,
            is_reused=stream not in changed,
        )


@dataclass(frozen=True)
class _Frame:
    """A frame at the model's size: its number among those kept, its time in the stream and its arrival here."""

    number: int
    seconds: float
    arrived: float
    pixels: torch.Tensor  # (crops, C, H, W)


class _Stream(threading.Thread):
    """Reads one source and keeps the frames of its newest window."""

    def __init__(
        self,
        source: str,
        labeler: VideoLabeler,
        window_seconds: float,
        hop_seconds: float,
        reuse_static: float | None,
        news: threading.Event,
        delay_seconds: float,
    ):
        super().__init__(name=f"fal watch {source}", daemon=True)
        self.source = source
        self.reader = labeler.reader
        self.num_frames = labeler.processor.num_frames
        self.interval_seconds = window_seconds / self.num_frames
        self.hop_seconds = hop_seconds
        self.static = None if reuse_static is None else self.reader.make_static(reuse_static)
        self.scores = torch.empty(0)  # (num_labels,), those of the last window that was scored
        self.news = news
        self.delay_seconds = delay_seconds
        self.frames: deque[_Frame] = deque(maxlen=self.num_frames)
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.error: str | None = None
        self.num_arrived = self.num_dropped = 0
        self.last_number, self.last_end = -1, float("-inf")
        self.is_read = False

    def run(self) -> None:
        if self.stopped.wait(self.delay_seconds):
            return
        try:
            self._read()
        except Exception as error:  # whatever one stream does, the others go on
            self.error = describe_error(error)
        self.is_read = True
        self.news.set()

    def _read(self) -> None:
        begun = None
        for seconds, is_live, convert in live_frames(self.source, interval_seconds=self.interval_seconds):
            if self.stopped.is_set():
                return
            begun = time.monotonic() - seconds if begun is None else begun
            lag = time.monotonic() - begun - seconds
            if is_live and lag < 0:
                begun += lag  # it came sooner than any frame before: only now do we know when the stream began
            elif not is_live and self.stopped.wait(max(0.0, -lag)):
                return
            self._keep(seconds, None if lag > MAX_LAG_SECONDS else convert())

    def _keep(self, seconds: float, image) -> None:
        """Notes the arrival of a frame; without its picture it is dropped."""
        arrived = time.monotonic()
        pixels = None if image is None else self.reader.process_frame(image)
        with self.lock:
            if pixels is not None:
                self.frames.append(_Frame(self.num_arrived, seconds, arrived, pixels))
            self.num_arrived += 1
        self.news.set()

    def take_newest(self) -> list[_Frame] | None:
        """The frames of the newest window, if there is one that ends a hop or more after the last one taken."""
        with self.lock:
            # A frame more or less is no matter: times of frames do not fall on the hops.
            due = self.last_end + self.hop_seconds - self.interval_seconds / 2
            is_short = self.is_read and self.last_number < 0 and self.reader.processor.short_clip != "error"
            if len(self.frames) < (1 if is_short else self.num_frames) or self.frames[-1].seconds < due:
                return None
            window = list(self.frames)
            window += window[-1:] * (self.num_frames - len(window))
            held = len({frame.number for frame in window if frame.number > self.last_number})
            self.num_dropped += window[-1].number - self.last_number - held
            self.last_number, self.last_end = window[-1].number, window[-1].seconds
            return window

    def is_static(self, window: list[_Frame]) -> bool:
        """Whether a window may take over the scores of an earlier one."""
        return self.static is not None and self.static.is_static([frame.pixels for frame in window])

    @property
    def drop_rate(self) -> float:
        return self.num_dropped / (self.last_number + 1)

    def stop(self) -> None:
        """Lets the thread end with its next frame; a source that gives none holds up nobody but its thread."""
        self.stopped.set()


__all__ = ["EndOfStream", "WatchedWindow", "watch"]
