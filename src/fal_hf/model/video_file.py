"""A video, opened once: what it is, and its frames at instants, by number, of a stretch, or as they come.

What is unusual here:

* The frame at instant `s` is the one on display then: the last frame whose presentation time is at most `s`.
  Instants count from the first frame, whatever time the container starts at.
* Nothing that a header says is believed. Sizes come from a decoded frame, the duration from the packets at the end
  of the file, and the output grows with the frames that really decode.
* Only what is needed is decoded: see `video_search`. Distant parts of a file are decoded side by side.
* Whatever is wrong with a video becomes a `VideoError` that names the video and the reason.

Frames keep their stored pixels: no tone mapping of HDR (its matrix and range are applied, its brightness curve stays)
and no stretching of non-square pixels.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat, starmap
from typing import NamedTuple

import av
import numpy as np

from .video_info import INSTANT_TOLERANCE_SECONDS, WHOLE, Stretch, VideoInfo
from .video_measuring import measure, read_to_end
from .video_pixels import FrameConverter
from .video_search import SEEK_DISTANCE_SECONDS, MustCount, Playhead, time_of
from .video_source import (
    LiveSource,
    Video,
    VideoError,
    VideoSource,
    default_threads,
    is_url,
    live_scheme,
    name_of,
    reported,
)

__all__ = [
    "LiveFrame",
    "Video",
    "VideoError",
    "VideoFile",
    "VideoFrame",
    "VideoFrames",
    "VideoInfo",
    "live_frames",
    "name_of",
    "probe",
    "read_frames",
]

# Distant parts of a file that are decoded side by side: what one may hold in RGB, and how long it is where instants
# are so dense that a cut costs decoding from the keyframe before it.
BLOCK_BYTES = 32 * 2**20
BLOCK_SECONDS = 40.0
MAX_PIXELS_PER_FRAME = 2**26
MAX_OUTPUT_BYTES = 2**32


class VideoFrame(NamedTuple):
    """One frame of a video.

    Attributes:
        image: (H, W, 3) uint8, RGB in [0, 255], upright. The same frame twice in a row is the same array.
        seconds: its presentation time after the first frame of the video.
        index: its number from 0; None where it is not known.
    """

    image: np.ndarray
    seconds: float
    index: int | None = None


class LiveFrame(NamedTuple):
    """One frame of a source as it comes.

    Attributes:
        seconds: its time after the first frame.
        is_live: whether the source sets the pace, and not its reader as for a file.
        convert: returns the image, (H, W, 3) uint8 RGB, upright, until the next frame is asked for.
    """

    seconds: float
    is_live: bool
    convert: Callable[[], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class VideoFrames:
    """Frames of one video, in the order asked for.

    Attributes:
        frames: (T, H, W, 3) uint8, RGB in [0, 255], upright.
        seconds: (T,) float64, presentation time of each frame, relative to the first frame of the video.
        indices: (T,) int64, number of each frame counted from 0; None where it is not known.
    """

    frames: np.ndarray
    seconds: np.ndarray
    indices: np.ndarray | None


class VideoFile:
    """A video, opened once.

    Args:
        video: path, http(s) URL, the bytes of a file, or a seekable binary file object; with `is_live` also a camera
            or a network stream, see [`live_frames`].
        num_threads: threads that decode, at most; None: as many as this process may use, 4 at most.
        max_pixels_per_frame: larger frames are refused before they are decoded.
        is_live: whether the packets may come only once; then nothing but `live_frames` is to be asked for.
        info: what the video is, where that was measured before; it is not measured again then.

    Raises:
        VideoError: the file cannot be opened or holds no video. Every method may raise it as well.

    Example:

    ```python
    >>> from fal_hf import VideoFile

    >>> with VideoFile("video.mp4") as video:
    ...     print(video.info.duration_seconds)
    ...     for frame in video.frames_at([0.0, 0.5]):
    ...         print(frame.seconds, frame.image.shape)
    ```"""

    def __init__(
        self,
        video: Video,
        *,
        num_threads: int | None = None,
        max_pixels_per_frame: int = MAX_PIXELS_PER_FRAME,
        is_live: bool = False,
        info: VideoInfo | None = None,
    ):
        self.name = name_of(video)
        self.num_threads = num_threads
        kind = LiveSource if is_live else VideoSource
        with reported(self.name):
            self._source = kind(video, name=self.name, num_threads=num_threads, max_pixels=max_pixels_per_frame)
        # Whether the frames that were counted came in the order of their times: else these say nothing.
        self._in_order = self._source.has_timestamps
        if info is not None:
            self.info = info

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._source.close()

    @cached_property
    def info(self) -> VideoInfo:
        """What the video is: decodes its first frame and reads, undecoded, the packets at its end."""
        with reported(self.name):
            self._source.restart()
            return measure(self._source)

    def frame_seconds(self) -> np.ndarray:
        """When each frame is shown, (num_frames,) float64 rising seconds after the first one.

        Reads all packets, undecoded. Where they have no times in order, frames are counted at the container's rate.
        """
        with reported(self.name):
            self._source.restart()
            try:
                if not self._source.has_timestamps:
                    raise MustCount
                times = np.array(_packet_times(self._source))
                return (times - times[0]) * float(self._source.time_base)
            except MustCount:
                return np.arange(self._count_packets()) / float(self._source.counting_rate)

    # ---- iterators: one for each way of asking; each begins anew and ends the one before it ----

    def frames_at(self, seconds: Iterable[float]) -> Iterator[VideoFrame]:
        """The frames on display at instants that never go back, one for each; memory does not grow with their number.

        An instant before the first frame gives the first; one after the last frame gives the last one as long as that
        is on display (and one frame longer, for rounding).

        Args:
            seconds: instants after the first frame.

        Raises:
            VideoError: the video ends before an instant, or is damaged there for more than half a second.
            ValueError: instants are not finite, or one lies before its predecessor.
        """
        instants = _checked_seconds(seconds)
        if (np.diff(instants) < 0).any():
            raise ValueError("expected instants that never go back; sort them")
        return self._reporting(self._at(np.maximum(instants + INSTANT_TOLERANCE_SECONDS, 0.0)))

    def frames_numbered(self, indices: Iterable[int]) -> Iterator[VideoFrame]:
        """The frames of some numbers from 0, which rise.

        Raises:
            VideoError: the video has no frame of a number.
            ValueError: numbers are negative or do not rise.
        """
        numbers = _checked_indices(indices)
        if (np.diff(numbers) <= 0).any():
            raise ValueError("expected numbers of frames that rise; sort them")
        return self._reporting(self._numbered(numbers.tolist()))

    def frames_of(self, stretch: Stretch = WHOLE) -> Iterator[VideoFrame]:
        """All frames of the video, or those on display during a stretch of it.

        Raises:
            VideoError: the video ends before the stretch begins.
        """
        return self._reporting(self._all() if stretch.is_whole else self._during(stretch))

    def live_frames(self, *, interval_seconds: float) -> Iterator[LiveFrame]:
        """Frames at least an interval apart, undelayed: one where one has come of each multiple of the interval."""
        return self._reporting(self._live(interval_seconds))

    def _reporting(self, frames: Iterator) -> Iterator:
        with reported(self.name):
            yield from frames

    # ---- the collector ----

    def read(
        self,
        *,
        seconds: Iterable[float] | None = None,
        indices: Iterable[int] | None = None,
        stretch: Stretch = WHOLE,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> VideoFrames:
        """The frames at some instants, or of some numbers, in any order and repeated or not; or all of a stretch.

        Args:
            seconds, indices, max_output_bytes: as for [`read_frames`].
            stretch: without instants and numbers: which stretch is read.

        Raises:
            VideoError, ValueError: as for [`read_frames`].
        """
        if seconds is not None and indices is not None:
            raise ValueError("expected seconds or indices, got both: give the one that says what you want")
        if seconds is not None:
            instants, rows = np.unique(_checked_seconds(seconds), return_inverse=True)
            return self._collect(self.frames_at(instants), _positions_of(rows), len(rows), max_output_bytes)
        if indices is not None:
            numbers, rows = np.unique(_checked_indices(indices), return_inverse=True)
            return self._collect(self.frames_numbered(numbers), _positions_of(rows), len(rows), max_output_bytes)
        room = self._count_packets() if stretch.is_whole else 1
        return self._collect(self.frames_of(stretch), repeat(None), room, max_output_bytes)

    def _collect(
        self, frames: Iterator[VideoFrame], positions: Iterable[np.ndarray | None], room: int, max_output_bytes: int
    ) -> VideoFrames:
        """Frames in one array with room for so many: each at its positions or, for None, behind the others."""
        output = None
        for frame, where in zip(frames, positions, strict=False):
            if output is None:
                output = _Output(self._source, frame.image.shape, room, max_output_bytes)
            output.put(frame, where)
        if output is None:
            raise self._source.error("holds no frame of the stretch that was asked for")
        return output.result(counting_rate=None if self._in_order else float(self._source.counting_rate))

    def _count_packets(self) -> int:
        """How many frames to expect, from the packets that are really there; a remote file is not read for that."""
        if is_url(self._source.video):
            return 1
        with reported(self.name):
            self._source.restart()
            return max(1, read_to_end(self._source).count)

    # ---- at instants ----

    def _at(self, seconds: np.ndarray) -> Iterator[VideoFrame]:
        """Where times prove wrong, the instants that are left are counted."""
        done = 0
        self._source.restart()
        if self._source.has_timestamps:
            try:
                for frame in self._at_times(seconds):
                    yield frame
                    done += 1
                return
            except MustCount:
                pass
        numbers = [math.floor(instant * self._source.counting_rate) for instant in seconds[done:]]
        rate = float(self._source.counting_rate)
        for number, frame in self._counted(numbers, holds_last=True):
            yield VideoFrame(frame.image, number / rate)

    def _at_times(self, seconds: np.ndarray) -> Iterator[VideoFrame]:
        reader = _InstantReader(self._source)
        blocks = _cut_into_blocks(seconds)
        block_bytes = max(map(len, blocks)) * 3 * math.prod(reader.convert.shape)
        num_readers = min(len(blocks), self.num_threads or default_threads())
        if num_readers < 2 or block_bytes > BLOCK_BYTES or not self._source.can_be_reopened:
            return reader.read(seconds)
        return _read_side_by_side(self._source, blocks, num_readers)

    # ---- by number ----

    def _numbered(self, numbers: list[int]) -> Iterator[VideoFrame]:
        """Takes numbers for the order of presentation times; where that proves wrong, counts decoded frames."""
        done = 0
        self._source.restart()
        if self._source.has_timestamps:
            try:
                for frame in self._numbered_by_times(numbers):
                    yield frame
                    done += 1
                return
            except MustCount:
                pass
        for _, frame in self._counted(numbers[done:]):
            yield frame

    def _numbered_by_times(self, numbers: list[int]) -> Iterator[VideoFrame]:
        times = _packet_times(self._source, numbers[-1] + 1)
        playhead = Playhead(self._source)
        convert = FrameConverter(self._source, playhead.first_frame())
        for number in numbers:
            ticks = times[number] - times[0]
            frame = playhead.frame_at(playhead.start + ticks)
            if time_of(frame) != playhead.start + ticks:
                raise MustCount
            yield VideoFrame(convert(frame), float(ticks * self._source.time_base), number)

    def _all(self) -> Iterator[VideoFrame]:
        return (frame for _, frame in self._counted(None))

    def _counted(self, numbers: list[int] | None, *, holds_last: bool = False) -> Iterator[tuple[int, VideoFrame]]:
        """
        Frames with their numbers, which never fall, or all, everything before them decoded.

        Where frames have no times in order, their time is number / frame rate. With `holds_last` a number one behind
        the last frame's, where rounding leads, gives the last one.
        """
        frames = self._decoded_from_start()
        number, frame = next(frames)
        make = partial(self._make_counted, FrameConverter(self._source, frame), frame.pts)
        if numbers is None:
            yield make(number, frame)
            yield from starmap(make, frames)
            return
        for wanted in numbers:
            while number < wanted and (following := next(frames, None)) is not None:
                number, frame = following
            if wanted > number + holds_last:
                raise self._source.error(f"has {number + 1} frames, number {numbers[-1]} (from 0) was asked for")
            yield make(number, frame)

    def _make_counted(
        self, convert: FrameConverter, start: int | None, number: int, frame: av.VideoFrame
    ) -> tuple[int, VideoFrame]:
        seconds = number / self._source.counting_rate
        if self._in_order and start is not None:
            seconds = (time_of(frame) - start) * self._source.time_base
        return number, VideoFrame(convert(frame), float(seconds), number)

    def _decoded_from_start(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decodes everything from the start, counts, and notes whether frames come in the order of their times."""
        self._source.rewind()
        number, before = 0, None
        self._in_order = self._source.has_timestamps
        for frame in self._source.decode_rest():
            in_order = frame.pts is not None and (before is None or frame.pts >= before)
            self._in_order, before = self._in_order and in_order, frame.pts
            yield number, frame
            number += 1
        if number == 0:
            raise self._source.no_frame_error()

    # ---- of a stretch, live ----

    def _during(self, stretch: Stretch) -> Iterator[VideoFrame]:
        end_seconds = math.inf if stretch.end_seconds is None else stretch.end_seconds
        self._source.restart()
        is_begun = False
        try:
            for frame in self._from(stretch.start_seconds):
                if frame.seconds + INSTANT_TOLERANCE_SECONDS >= end_seconds:
                    return
                is_begun = True
                yield frame
        except MustCount as error:
            if is_begun:
                raise self._source.error("has frames whose times are out of order") from error
            yield from self._counted_during(stretch.start_seconds, end_seconds)

    def _from(self, start_seconds: float) -> Iterator[VideoFrame]:
        if not self._source.has_timestamps:
            raise MustCount
        playhead = Playhead(self._source)
        convert = FrameConverter(self._source, playhead.first_frame())
        ticks = math.floor((start_seconds + INSTANT_TOLERANCE_SECONDS) / self._source.time_base)
        for frame in playhead.frames_from(playhead.start + ticks):
            yield VideoFrame(convert(frame), float((time_of(frame) - playhead.start) * self._source.time_base))

    def _counted_during(self, start_seconds: float, end_seconds: float) -> Iterator[VideoFrame]:
        first = math.floor((start_seconds + INSTANT_TOLERANCE_SECONDS) * self._source.counting_rate)
        for number, frame in self._counted(None):
            if number / self._source.counting_rate + INSTANT_TOLERANCE_SECONDS >= end_seconds:
                return
            if number >= first:
                yield frame

    def _live(self, interval_seconds: float) -> Iterator[LiveFrame]:
        source, following = self._source, 0
        is_live = live_scheme(source.video) is not None
        start = convert = None
        for number, frame in self._decoded_from_start():
            if convert is None:
                start, convert = frame.pts, FrameConverter(source, frame)
            seconds = number / float(source.counting_rate)
            if frame.pts is not None and start is not None:
                seconds = float((frame.pts - start) * source.time_base)
            if seconds + INSTANT_TOLERANCE_SECONDS >= following * interval_seconds:
                following = math.floor((seconds + INSTANT_TOLERANCE_SECONDS) / interval_seconds) + 1
                yield LiveFrame(seconds, is_live, partial(convert, frame))


class _InstantReader:
    """The frames on display at rising instants, from one source."""

    def __init__(self, source: VideoSource):
        self.source = source
        self.playhead = Playhead(source)
        self.convert = FrameConverter(source, self.playhead.first_frame())

    def read(self, seconds: np.ndarray) -> Iterator[VideoFrame]:
        ticks_per_second, start = float(1 / self.source.time_base), self.playhead.start
        for instant in seconds:
            frame = self.playhead.frame_at(start + math.floor(instant * ticks_per_second))
            yield VideoFrame(self.convert(frame), float((time_of(frame) - start) * self.source.time_base))


def _cut_into_blocks(seconds: np.ndarray) -> list[np.ndarray]:
    """Rising instants in parts between which there is a seek anyway, or which last so long that one costs little."""
    cuts, first = [], 0
    for position in range(1, len(seconds)):
        is_far = seconds[position] - seconds[position - 1] > SEEK_DISTANCE_SECONDS
        if is_far or seconds[position] - seconds[first] >= BLOCK_SECONDS:
            cuts.append(first := position)
    return np.split(seconds, cuts)


def _read_side_by_side(source: VideoSource, blocks: list[np.ndarray], num_readers: int) -> Iterator[VideoFrame]:
    """
    The frames of all blocks in order; several decoders of one thread each are that many blocks ahead.

    A decoder never goes back: it takes a later block than the one that it has read, whichever thread runs first.
    """
    waiting, pending = deque(blocks), deque()
    free: deque[_InstantReader | None] = deque([None] * num_readers)
    with ExitStack() as stack:

        def read(reader: _InstantReader | None, block: np.ndarray) -> tuple[_InstantReader, list[VideoFrame]]:
            if reader is None:
                reader = _InstantReader(stack.enter_context(closing(source.reopened(num_threads=1))))
            return reader, list(reader.read(block))

        pool = ThreadPoolExecutor(num_readers)
        try:
            while waiting or pending:
                while waiting and free:
                    pending.append(pool.submit(read, free.popleft(), waiting.popleft()))
                reader, frames = pending.popleft().result()
                free.append(reader)
                yield from frames
        finally:
            pool.shutdown(cancel_futures=True)


def _packet_times(source: VideoSource, count: int | None = None) -> list[int]:
    """Presentation times of at least the first `count` frames, or of all, in order, read from the packets alone."""
    times: list[int] = []
    dts = None
    while count is None or len(times) < count or dts is None or dts <= times[count - 1]:
        packet = source.read_packet()
        if packet is None:
            break
        if packet.pts is None:
            raise MustCount
        dts = packet.dts
        if not packet.is_discard:
            insort(times, packet.pts)
    source.rewind()
    if len(times) < (count or 1) or len(set(times)) < len(times):
        raise MustCount
    return times


class _Output:
    """Frames in one array, which grows where their number is not known."""

    def __init__(self, source: VideoSource, shape: tuple[int, ...], room: int, max_bytes: int):
        self.source, self.shape, self.max_bytes = source, shape, max_bytes
        self._check_size(room)
        self.frames = np.empty((room, *shape), np.uint8)
        self.seconds: list[float] = []
        self.indices: list[int | None] = []
        self.positions: list[np.ndarray] = []

    def put(self, frame: VideoFrame, positions: np.ndarray | None) -> None:
        """Puts a frame where it is wanted; None: behind the others."""
        if positions is None:
            positions = np.array([len(self.seconds)])
            self._make_room(len(self.seconds) + 1)
        for position in positions:
            self.frames[position] = frame.image
        self.seconds.append(frame.seconds)
        self.indices.append(frame.index)
        self.positions.append(positions)

    def _make_room(self, count: int) -> None:
        self._check_size(count)
        if count > len(self.frames):
            # In place: a list that is stacked at the end would need all the memory twice.
            self.frames.resize((count + count // 2, *self.shape), refcheck=False)

    def _check_size(self, count: int) -> None:
        check_output_size(self.source.name, count, self.shape, self.max_bytes)

    def result(self, *, counting_rate: float | None) -> VideoFrames:
        """All frames; with a counting rate, where times say nothing, their times are number / rate."""
        where = np.concatenate(self.positions)
        repeats = [len(positions) for positions in self.positions]
        self.frames.resize((len(where), *self.shape), refcheck=False)
        seconds, indices = np.empty(len(where)), None
        seconds[where] = np.repeat(self.seconds, repeats)
        known = [index for index in self.indices if index is not None]
        if len(known) == len(self.indices):
            indices = np.empty(len(where), np.int64)
            indices[where] = np.repeat(known, repeats)
            seconds = seconds if counting_rate is None else indices / counting_rate
        return VideoFrames(frames=self.frames, seconds=seconds, indices=indices)


def check_output_size(name: str, count: int, shape: tuple[int, ...], max_output_bytes: int = MAX_OUTPUT_BYTES) -> None:
    """Raises a VideoError where so many frames, (H, W, 3) uint8 of a video of this name, take too many bytes."""
    size = count * math.prod(shape)
    if size > max_output_bytes:
        what = f"{count} frames of {shape[1]} x {shape[0]} take {size} bytes"
        raise VideoError(name, f"{what}, over max_output_bytes = {max_output_bytes}: ask for fewer frames")


def _positions_of(rows: np.ndarray) -> list[np.ndarray]:
    """Where each of the values 0, 1, 2, ... stands in a list of them."""
    return np.split(np.argsort(rows, kind="stable"), np.cumsum(np.bincount(rows))[:-1])


def _checked_seconds(seconds: Iterable[float]) -> np.ndarray:
    values = np.asarray(list(seconds), dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"expected a flat list of at least one finite number of seconds, got {values}")
    return values


def _checked_indices(indices: Iterable[int]) -> np.ndarray:
    values = np.asarray(list(indices))
    if values.ndim != 1 or not values.size or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(f"expected a flat list of at least one frame number from 0, got {values}")
    return values.astype(np.int64)


# ---- one question to one video ----


def probe(
    video: Video, *, num_threads: int | None = None, max_pixels_per_frame: int = MAX_PIXELS_PER_FRAME
) -> VideoInfo:
    """Measures a video: decodes its first frame and reads, undecoded, the packets at its end.

    Args:
        video, num_threads, max_pixels_per_frame: as for [`VideoFile`].

    Raises:
        VideoError: the file cannot be read, holds no video, or none of its frames decodes.
    """
    with VideoFile(video, num_threads=num_threads, max_pixels_per_frame=max_pixels_per_frame) as file:
        return file.info


def read_frames(
    video: Video,
    *,
    seconds: Iterable[float] | None = None,
    indices: Iterable[int] | None = None,
    num_threads: int | None = None,
    max_pixels_per_frame: int = MAX_PIXELS_PER_FRAME,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> VideoFrames:
    """Decodes the frames on display at some instants, or of some numbers, or all frames.

    An instant between two frames gives the earlier one; an instant before the first frame gives the first. An instant
    after the last frame gives the last one as long as that is on display (and one frame longer, for rounding).

    Args:
        video, num_threads, max_pixels_per_frame: as for [`VideoFile`].
        seconds: instants relative to the first frame, in any order, repeated or not.
        indices: frame numbers from 0, in any order, repeated or not. With neither, all frames are read.
        max_output_bytes: a larger result is refused before it is allocated.

    Returns:
        The frames in the order asked for. Where the size changes within a video they have the first frame's size.

    Raises:
        VideoError: the file cannot be read, holds no video, ends before an instant or frame number, is damaged there
            for more than half a second, or the result would be too large.
        ValueError: both seconds and indices are given, or they are negative numbers, not finite, or not flat.
    """
    with VideoFile(video, num_threads=num_threads, max_pixels_per_frame=max_pixels_per_frame) as file:
        return file.read(seconds=seconds, indices=indices, max_output_bytes=max_output_bytes)


def live_frames(
    source: str, *, interval_seconds: float, max_pixels_per_frame: int = MAX_PIXELS_PER_FRAME
) -> Iterator[LiveFrame]:
    """Frames at least an interval apart, as a camera, a network stream or a file gives them, undelayed.

    Args:
        source: path, http(s), rtsp(s), rtmp(s), srt, udp or tcp URL, or a camera: `/dev/video0`, or `camera:` and the
            system's name of one.
        interval_seconds: a frame is yielded where one has come of each multiple of this.
        max_pixels_per_frame: larger frames are refused before they are decoded.

    Raises:
        VideoError: the source cannot be opened or read.
    """
    # Each decoder thread would hold back a frame.
    with VideoFile(source, num_threads=1, max_pixels_per_frame=max_pixels_per_frame, is_live=True) as file:
        yield from file.live_frames(interval_seconds=interval_seconds)
