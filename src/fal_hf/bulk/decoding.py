"""Videos to batches of views, in this process or in others, which a video cannot take down or hold up for good."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from multiprocessing.connection import wait

import torch

from ..labeling.static_windows import ReusedWindow
from ..labeling.views import ViewReader
from ..model.video_source import available_cores, default_threads
from .inputs import VideoInput, opened_input, reason_of
from .limits import MOST_BYTES, DecodeLimits
from .messages import Batch, DecoderMessage, Ended, Failed, Opened, Reused, is_last

# The system cannot wait for weeks.
LONGEST_WAIT_SECONDS = 3600.0


def decode_videos(
    videos: Iterable[VideoInput], reader: ViewReader, *, num_workers: int = 0, limits: DecodeLimits | None = None
) -> Iterator[tuple[VideoInput, DecoderMessage]]:
    """
    Decodes videos, several at a time where there are workers.

    Args:
        videos: What to decode; is gone through as workers become free.
        reader: Which views.
        num_workers: Processes that decode; 0: this one, one video after the other, without limits.
        limits: What one video may take in a worker. One that takes more has failed, and its worker is replaced.

    Yields:
        A video and one of its messages, in the order of the video; videos interleave.

    Raises:
        ValueError: the number of workers is negative.
        RuntimeError: workers cannot be started.
    """
    if num_workers < 0:
        raise ValueError(f"num_workers: expected at least 0, got {num_workers}")
    if num_workers == 0:
        return ((video, message) for video in videos for message in read_messages(reader, video))
    return _decode_in_processes(iter(videos), reader, num_workers, limits or DecodeLimits())


def read_messages(reader: ViewReader, video: VideoInput) -> Iterator[DecoderMessage]:
    """The messages of one video."""
    try:
        with opened_input(video.source) as opened, reader.open(opened) as file:
            plan = reader.plan(file, video.stretch)
            yield Opened(plan.layout)
            for part in reader.read(file, plan):
                yield Reused(part.number) if isinstance(part, ReusedWindow) else Batch(part)
        yield Ended()
    except Exception as error:  # whatever one file does, the others are labeled
        yield Failed(reason_of(error, video.name))


def _decode_in_processes(
    videos: Iterator[VideoInput], reader: ViewReader, num_workers: int, limits: DecodeLimits
) -> Iterator[tuple[VideoInput, DecoderMessage]]:
    workers: list[_Worker] = []
    reader = copy(reader)
    reader.num_threads = reader.num_threads or min(default_threads(), max(1, available_cores() // num_workers))
    try:
        while True:
            for worker in workers:
                if worker.is_idle and (video := next(videos, None)) is not None:
                    worker.begin(video)
            while len(workers) < num_workers and (video := next(videos, None)) is not None:
                workers.append(_Worker(reader, limits, video))
            if all(worker.is_idle for worker in workers):
                return
            for worker in _await_some(workers):
                video, message = worker.video, worker.receive()
                if message is not None:
                    yield video, message
    finally:
        for worker in workers:
            worker.stop()


def _await_some(workers: list["_Worker"]) -> list["_Worker"]:
    """Workers that have a message, and those that are overdue."""
    busy = [worker for worker in workers if not worker.is_idle]
    ready = wait([worker.connection for worker in busy], timeout=min(worker.seconds_left for worker in busy))
    return [worker for worker in busy if worker.connection in ready or worker.seconds_left == 0]


@dataclass(frozen=True)
class _Ready:
    """What a process says first, and only once: it can be sent videos."""


class _Worker:
    """A process that decodes one video after the other, and its replacement where it has to be killed.

    `video` is the one that it decodes or, where it is idle, that it decoded last.
    """

    def __init__(self, reader: ViewReader, limits: DecodeLimits, video: VideoInput):
        self.reader = reader
        self.limits = limits
        self.video = video
        self.is_idle = False
        self._start()

    def _start(self) -> None:
        self.is_ready = False
        self.since = time.monotonic()
        context = decoding_context()
        self.connection, theirs = context.Pipe()
        arguments = (theirs, self.reader, self.limits.max_memory_bytes)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    @property
    def seconds_left(self) -> float:
        """Until the video is overdue, or until to look again; a process that starts may take its time."""
        if self.limits.timeout_seconds is None or not self.is_ready:
            return LONGEST_WAIT_SECONDS
        left = self.limits.timeout_seconds - (time.monotonic() - self.since)
        return min(max(0.0, left), LONGEST_WAIT_SECONDS)

    def begin(self, video: VideoInput) -> None:
        self.video = video
        self.is_idle = False
        self.since = time.monotonic()
        if self.is_ready:
            self._send(video)

    def _send(self, video: VideoInput) -> None:
        with suppress(OSError):  # it has died since: receive() finds out
            self.connection.send(video)

    def receive(self) -> DecoderMessage | None:
        """
        The next message, None where the process has only become ready; [`Failed`] where it has died, or is killed here
        because it is overdue.
        """
        try:
            # A message that has waited here for us to read it is in time.
            message = self.connection.recv() if self.connection.poll() else Failed(self._replace_overdue())
        except (EOFError, OSError):
            message = Failed(self._replace_dead())
        self.since = time.monotonic()
        if isinstance(message, _Ready):
            self.is_ready = True
            self._send(self.video)
            return None
        self.is_idle = is_last(message)
        return message

    def _replace_overdue(self) -> str:
        self.stop()
        self._start()
        return f"{self.video.name}: took longer than {self.limits.timeout_seconds:g} s to decode a batch of clips"

    def _replace_dead(self) -> str:
        self.process.join()
        code = self.process.exitcode
        if not self.is_ready:
            raise RuntimeError(f"a process that decodes cannot be started, it ended with exit code {code}")
        self.stop()
        self._start()
        return (
            f"{self.video.name}: the process that decoded it ended with exit code {code}, for want of memory perhaps"
        )

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def decoding_context():
    """Processes that start quickly where the system can: copies of one that has imported everything."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


# ---- in the worker ----


def _serve(connection, reader: ViewReader, max_memory_bytes: int | None) -> None:
    """Decodes what comes in until the other end is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process is asked as well, and ends us
    torch.set_num_threads(1)
    if max_memory_bytes is not None:
        _limit_memory(max_memory_bytes)
    try:
        connection.send(_Ready())
        while True:
            video = connection.recv()
            for message in read_messages(reader, video):
                connection.send(message)
    except (EOFError, OSError):
        return


def _end_with_parent() -> None:
    """Ends this process with the one that it works for, even where a decoder hangs."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _limit_memory(max_memory_bytes: int) -> None:
    """Lets this process's memory grow by so much and no more: an allocation beyond that fails."""
    try:
        import resource

        with open("/proc/self/status", encoding="ascii") as status:
            (data_kib,) = [int(line.split()[1]) for line in status if line.startswith("VmData")]
    except (ImportError, OSError):  # no such system
        return
    limit = min(data_kib * 1024 + max_memory_bytes, MOST_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


__all__ = ["decode_videos", "decoding_context", "read_messages"]
