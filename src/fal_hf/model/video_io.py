"""Reads frames out of video files: upright RGB at given instants or frame numbers.

What is unusual here:

* The frame at instant `s` is the one on display then: the last frame whose presentation time is at most `s`.
  Instants count from the first frame, whatever time the container starts at.
* Nothing that a header says is believed. Sizes come from a decoded frame, the duration from the packets at the end
  of the file, and the output grows with the frames that really decode.
* Only what is needed is decoded: see `video_source`. Distant parts of a file are decoded side by side.
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
from fractions import Fraction
from functools import partial
from queue import Empty, SimpleQueue

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from .video_source import (
    SEEK_DISTANCE_SECONDS,
    MustCount,
    Playhead,
    Video,
    VideoError,
    VideoSource,
    default_threads,
    is_url,
    live_scheme,
    opened,
)

__all__ = ["Video", "VideoError", "VideoFrames", "VideoInfo", "live_frames", "probe", "read_frames", "stream_frames"]

# An instant this little before a frame's time counts as that frame's: users round instants, frames rarely last less.
INSTANT_TOLERANCE_SECONDS = 1e-6
# Files up to this size and length are read through once to be measured; of others only the end is.
MEASURED_WHOLE_BYTES = 16 * 2**20
MEASURED_WHOLE_SECONDS = 60.0
# Distant parts of a file that are decoded side by side: what one may hold in RGB, and how long it is where instants
# are so dense that a cut costs decoding from the keyframe before it.
BLOCK_BYTES = 32 * 2**20
BLOCK_SECONDS = 40.0
# Starting threads for each frame costs more than they save; releases without the option start none.
SCALER_OPTIONS = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video is, as measured.

    Attributes:
        width, height: pixels of an upright frame (after rotation).
        start_seconds: the container's time of the first frame; instants elsewhere count from it.
        duration_seconds: from the first frame to the end of the last one that the file really holds.
        num_frames: frames in the file; None where only decoding all of it would tell.
        frame_rate: mean frames per second; None where the container does not say.
        rotation_degrees: clockwise turn (0, 90, 180 or 270) that makes the stored frames upright.
        codec: FFmpeg's name, e.g. "h264".
        pixel_format: FFmpeg's name of the stored format, e.g. "yuv420p".
    """

    width: int
    height: int
    start_seconds: float
    duration_seconds: float
    num_frames: int | None
    frame_rate: float | None
    rotation_degrees: int
    codec: str
    pixel_format: str


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


def probe(video: Video, *, num_threads: int | None = None, max_pixels_per_frame: int = 2**26) -> VideoInfo:
    """Measures a video: decodes its first frame and reads, undecoded, the packets at its end.

    Args:
        video: path, http(s) URL, the bytes of a file, or a seekable binary file object.
        num_threads: threads that decode, at most; None: as many as this process may use, 4 at most.
        max_pixels_per_frame: larger frames are refused before they are decoded.

    Raises:
        VideoError: the file cannot be read, holds no video, or none of its frames decodes.
    """
    with opened(video, num_threads=num_threads, max_pixels=max_pixels_per_frame) as source:
        first = Playhead(source).first_frame()
        duration_seconds, num_frames = _measure(source, first)
        height, width = _upright_shape(first)
        return VideoInfo(
            width=width,
            height=height,
            start_seconds=float(first.pts * source.time_base) if source.has_timestamps else 0.0,
            duration_seconds=duration_seconds,
            num_frames=num_frames,
            frame_rate=float(source.frame_rate) if source.frame_rate else None,
            rotation_degrees=_rotation_degrees(first),
            codec=source.stream.codec_context.codec.name,
            pixel_format=first.format.name,
        )


def read_frames(
    video: Video,
    *,
    seconds: Iterable[float] | None = None,
    indices: Iterable[int] | None = None,
    num_threads: int | None = None,
    max_pixels_per_frame: int = 2**26,
    max_output_bytes: int = 2**32,
) -> VideoFrames:
    """Decodes the frames on display at some instants, or of some numbers, or all frames.

    An instant between two frames gives the earlier one; an instant before the first frame gives the first. An instant
    after the last frame gives the last one as long as that is on display (and one frame longer, for rounding).

    Args:
        video: path, http(s) URL, the bytes of a file, or a seekable binary file object.
        seconds: instants relative to the first frame, in any order, repeated or not.
        indices: frame numbers from 0, in any order, repeated or not. With neither, all frames are read.
        num_threads: threads that decode, at most; None: as many as this process may use, 4 at most.
        max_pixels_per_frame: larger frames are refused before they are decoded.
        max_output_bytes: a larger result is refused before it is allocated.

    Returns:
        The frames in the order asked for. Where the size changes within a video they have the first frame's size.

    Raises:
        VideoError: the file cannot be read, holds no video, ends before an instant or frame number, is damaged there
            for more than half a second, or the result would be too large.
        ValueError: both seconds and indices are given, or they are negative numbers, not finite, or not flat.
    """
    seconds, indices = _checked_request(seconds, indices)
    with opened(video, num_threads=num_threads, max_pixels=max_pixels_per_frame) as source:
        if seconds is not None:
            return _read_instants(source, seconds, max_output_bytes, num_threads)
        if indices is not None:
            return _read_numbers(source, indices, max_output_bytes)
        return _read_counted(source, None, max_output_bytes)


def stream_frames(
    video: Video,
    *,
    seconds: Iterable[float],
    num_threads: int | None = None,
    max_pixels_per_frame: int = 2**26,
) -> Iterator[tuple[np.ndarray, float]]:
    """Decodes the frames on display at rising instants, one after the other: memory does not grow with their number.

    Args:
        video: path, http(s) URL, the bytes of a file, or a seekable binary file object.
        seconds: instants relative to the first frame, none before the one that precedes it.
        num_threads: threads that decode, at most; None: as many as this process may use, 4 at most.
        max_pixels_per_frame: larger frames are refused before they are decoded.

    Yields:
        For each instant the frame, (H, W, 3) uint8 RGB, upright, of the first frame's size, and its presentation time
        in seconds after the first frame. The same frame twice in a row is the same array.

    Raises:
        VideoError: as for [`read_frames`], when the frame in question is reached.
        ValueError: the instants are not finite, or one lies before its predecessor.
    """
    seconds, _ = _checked_request(seconds, None)
    if (np.diff(seconds) < 0).any():
        raise ValueError("expected instants that never go back; sort them")
    with opened(video, num_threads=num_threads, max_pixels=max_pixels_per_frame) as source:
        yield from _stream_instants(source, _instants_to_look_up(seconds), num_threads)


def live_frames(
    source: str, *, interval_seconds: float, max_pixels_per_frame: int = 2**26
) -> Iterator[tuple[float, bool, Callable[[], np.ndarray]]]:
    """Frames at least an interval apart, as a camera, a network stream or a file gives them, undelayed.

    Args:
        source: path, http(s), rtsp(s), rtmp(s), srt, udp or tcp URL, or a camera: `/dev/video0`, or `camera:` and the
            system's name of one.
        interval_seconds: a frame is yielded where one has come of each multiple of this.
        max_pixels_per_frame: larger frames are refused before they are decoded.

    Yields:
        Seconds after the first frame; whether the source sets the pace, and not its reader as for a file; and a
        function that returns the frame, (H, W, 3) uint8 RGB, upright, until the next one is asked for.

    Raises:
        VideoError: the source cannot be opened or read.
    """
    is_live = live_scheme(source) is not None
    # Each decoder thread would hold back a frame.
    with opened(source, num_threads=1, max_pixels=max_pixels_per_frame, is_live=True) as opened_source:
        following = 0
        for number, frame in _numbered_frames(opened_source):
            if number == 0:
                start, converted = frame.pts, _Converted(opened_source, frame)
            seconds = number / float(opened_source.counting_rate)
            if frame.pts is not None and start is not None:
                seconds = float((frame.pts - start) * opened_source.time_base)
            if seconds + INSTANT_TOLERANCE_SECONDS >= following * interval_seconds:
                following = math.floor((seconds + INSTANT_TOLERANCE_SECONDS) / interval_seconds) + 1
                yield seconds, is_live, partial(converted, frame)


def _checked_request(seconds, indices) -> tuple[np.ndarray | None, np.ndarray | None]:
    if seconds is not None and indices is not None:
        raise ValueError("expected seconds or indices, got both: give the one that says what you want")
    if seconds is not None:
        seconds = np.asarray(list(seconds), dtype=np.float64)
        if seconds.ndim != 1 or not seconds.size or not np.isfinite(seconds).all():
            raise ValueError(f"expected a flat list of at least one finite number of seconds, got {seconds}")
    if indices is not None:
        indices = np.asarray(list(indices))
        if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu" or indices.min() < 0:
            raise ValueError(f"expected a flat list of at least one frame number from 0, got {indices}")
        indices = indices.astype(np.int64)
    return seconds, indices


def _numbered_frames(source: VideoSource) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes everything from the start and counts."""
    source.rewind()
    number = 0
    packet = True
    while packet is not None:
        packet = source.read_packet()
        for frame in source.decode(packet):
            yield number, frame
            number += 1
    if number == 0:
        raise source.no_frame_error()


# ---- the three ways to ask ----


def _read_instants(source: VideoSource, seconds: np.ndarray, max_bytes: int, num_threads: int | None) -> VideoFrames:
    rising, rows = np.unique(_instants_to_look_up(seconds), return_inverse=True)
    positions = np.split(np.argsort(rows, kind="stable"), np.cumsum(np.bincount(rows))[:-1])
    frames, shown = None, np.empty(len(seconds))
    for where, (image, instant) in zip(positions, _stream_instants(source, rising, num_threads), strict=True):
        if frames is None:
            shape = (len(seconds), *image.shape)
            _check_size(source, shape, max_bytes)
            frames = np.empty(shape, np.uint8)
        frames[where], shown[where] = image, instant
    return VideoFrames(frames=frames, seconds=shown, indices=None)


def _instants_to_look_up(seconds: np.ndarray) -> np.ndarray:
    return np.maximum(seconds + INSTANT_TOLERANCE_SECONDS, 0.0)


def _stream_instants(
    source: VideoSource, seconds: np.ndarray, num_threads: int | None
) -> Iterator[tuple[np.ndarray, float]]:
    """Images and times at rising instants; where times prove wrong, the instants that are left are counted."""
    done = 0
    if source.has_timestamps:
        try:
            for frame in _stream_by_time(source, seconds, num_threads or default_threads()):
                yield frame
                done += 1
            return
        except MustCount:
            pass
    numbers = [math.floor(instant * source.counting_rate) for instant in seconds[done:]]
    yield from _stream_counted(source, numbers)


def _stream_by_time(source: VideoSource, seconds: np.ndarray, num_threads: int) -> Iterator[tuple[np.ndarray, float]]:
    reader = _InstantReader(source)
    blocks = _cut_into_blocks(seconds)
    block_bytes = max(map(len, blocks)) * 3 * math.prod(reader.converted.shape)
    num_readers = min(len(blocks), num_threads)
    if num_readers < 2 or block_bytes > BLOCK_BYTES or not source.can_be_reopened:
        yield from reader.read(seconds)
    else:
        yield from _stream_side_by_side(source, blocks, num_readers)


def _cut_into_blocks(seconds: np.ndarray) -> list[np.ndarray]:
    """Rising instants in parts between which there is a seek anyway, or which last so long that one costs little."""
    cuts, first = [], 0
    for position in range(1, len(seconds)):
        is_far = seconds[position] - seconds[position - 1] > SEEK_DISTANCE_SECONDS
        if is_far or seconds[position] - seconds[first] >= BLOCK_SECONDS:
            cuts.append(first := position)
    return np.split(seconds, cuts)


def _stream_side_by_side(
    source: VideoSource, blocks: list[np.ndarray], num_readers: int
) -> Iterator[tuple[np.ndarray, float]]:
    """The frames of all blocks in order; several decoders of one thread each are that many blocks ahead."""
    idle: SimpleQueue[_InstantReader] = SimpleQueue()
    blocks, pending = deque(blocks), deque()
    with ExitStack() as stack:

        def read(block: np.ndarray) -> list[tuple[np.ndarray, float]]:
            try:
                reader = idle.get_nowait()
            except Empty:
                reader = _InstantReader(stack.enter_context(closing(source.reopened(num_threads=1))))
            frames = list(reader.read(block))
            idle.put(reader)
            return frames

        pool = ThreadPoolExecutor(num_readers)
        try:
            while blocks or pending:
                while blocks and len(pending) < num_readers:
                    pending.append(pool.submit(read, blocks.popleft()))
                yield from pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class _InstantReader:
    """The frames on display at rising instants, from one source."""

    def __init__(self, source: VideoSource):
        self.source = source
        self.playhead = Playhead(source)
        self.converted = _Converted(source, self.playhead.first_frame())

    def read(self, seconds: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        ticks_per_second, start = float(1 / self.source.time_base), self.playhead.start
        for instant in seconds:
            frame = self.playhead.frame_at(start + math.floor(instant * ticks_per_second))
            yield self.converted(frame), float((frame.pts - start) * self.source.time_base)


def _stream_counted(source: VideoSource, numbers: list[int]) -> Iterator[tuple[np.ndarray, float]]:
    """Frames by rising number, everything before them decoded; one past the end gives the last frame."""
    frames = _numbered_frames(source)
    number, frame = next(frames)
    converted = _Converted(source, frame)
    for wanted in numbers:
        while number < wanted:
            following = next(frames, None)
            if following is None:
                break
            number, frame = following
        if wanted > number + 1:
            raise source.error(f"has {number + 1} frames, number {wanted} (from 0) was asked for")
        yield converted(frame), number / float(source.counting_rate)


class _Converted:
    """Frames as upright RGB of the first frame's size; a frame that comes again at once is not converted again."""

    def __init__(self, source: VideoSource, first):
        self.source = source
        self.reformatter = VideoReformatter()
        self.shape = _upright_shape(first)
        self.frame = self.image = None

    def __call__(self, frame) -> np.ndarray:
        if frame is not self.frame:
            self.source.check_pixels(frame.width, frame.height)
            self.frame, self.image = frame, _upright_rgb(frame, self.shape, self.reformatter)
        return self.image


def _read_numbers(source: VideoSource, indices: np.ndarray, max_bytes: int) -> VideoFrames:
    """Takes frame numbers for the order of presentation times; where that proves wrong, counts decoded frames."""
    if source.has_timestamps:
        try:
            times = _packet_times(source, int(indices.max()) + 1)
            return _read_ticks(source, indices, [times[index] - times[0] for index in indices], max_bytes)
        except MustCount:
            pass
    return _read_counted(source, indices.tolist(), max_bytes)


def _read_ticks(source: VideoSource, indices: np.ndarray, ticks: list[int], max_bytes: int) -> VideoFrames:
    """The frames of some numbers, which begin these ticks after the first frame."""
    playhead = Playhead(source)
    output = _Output(source, playhead.first_frame(), max_bytes, count=len(ticks), room=len(ticks))
    for tick, positions in _positions_of(ticks).items():
        frame = playhead.frame_at(playhead.start + tick)
        if frame.pts != playhead.start + tick:
            raise MustCount
        output.put(positions, frame)
    return VideoFrames(frames=output.frames, seconds=output.seconds(), indices=indices)


def _packet_times(source: VideoSource, count: int) -> list[int]:
    """Presentation times of at least the first `count` frames, in order, read from the packets alone."""
    times: list[int] = []
    dts = None
    while len(times) < count or dts is None or dts <= times[count - 1]:
        packet = source.read_packet()
        if packet is None:
            break
        if packet.pts is None:
            raise MustCount
        dts = packet.dts
        if not packet.is_discard:
            insort(times, packet.pts)
    source.rewind()
    if len(times) < count or len(set(times)) < len(times):
        raise MustCount
    return times


def _read_counted(source: VideoSource, numbers: list[int] | None, max_bytes: int) -> VideoFrames:
    """Frames by number, or all, everything before them decoded."""
    wanted = None if numbers is None else _positions_of(numbers)
    count, output = None if numbers is None else len(numbers), None
    room = count or _room_for_all(source)
    for number, frame in _numbered_frames(source):
        output = output or _Output(source, frame, max_bytes, count=count, room=room)
        output.see(frame)
        positions = [number] if wanted is None else wanted.pop(number, [])
        output.put(positions, frame, number=number)
        if wanted is not None and not wanted:
            break
    if wanted:
        raise source.error(f"has {number + 1} frames, number {max(wanted)} (from 0) was asked for")
    return output.with_numbers()


def _room_for_all(source: VideoSource) -> int:
    """How many frames to expect, from the packets that are really there; a remote file is not read twice for that."""
    if is_url(source.video):
        return 1
    source.rewind()
    return max(1, _read_to_end(source)[0])


def _positions_of(values: list[int]) -> dict[int, list[int]]:
    """Where each distinct value stands in a list, by rising value."""
    positions: dict[int, list[int]] = {}
    for position in np.argsort(values, kind="stable").tolist():
        positions.setdefault(int(values[position]), []).append(position)
    return positions


def _check_size(source: VideoSource, shape: tuple[int, int, int, int], max_bytes: int) -> None:
    size = math.prod(shape)
    if size > max_bytes:
        what = f"{shape[0]} frames of {shape[2]} x {shape[1]} take {size} bytes"
        raise source.error(f"{what}, over max_output_bytes = {max_bytes}: ask for fewer frames")


class _Output:
    """The result as it grows: converts a frame once and puts it wherever it was asked for."""

    def __init__(self, source: VideoSource, first, max_bytes: int, *, count: int | None, room: int):
        self.source = source
        self.max_bytes = max_bytes
        self.shape = (*_upright_shape(first), 3)
        self.grows = count is None
        _check_size(source, (room, *self.shape), max_bytes)
        self.frames = np.empty((room, *self.shape), np.uint8)
        self.reformatter = VideoReformatter()
        self.ticks: list[int | None] = [None] * (count or 0)
        self.numbers: list[int] = [0] * (count or 0)
        self.first_ticks = self.last_ticks = first.pts
        self.in_order = source.has_timestamps

    def see(self, frame) -> None:
        """Notes a decoded frame, asked for or not: whether frames come in the order of their times."""
        self.in_order = self.in_order and frame.pts is not None and frame.pts >= self.last_ticks
        self.last_ticks = frame.pts

    def put(self, positions: list[int], frame, *, number: int = 0) -> None:
        if not positions:
            return
        if self.grows:
            self._make_room(positions[-1] + 1)
        self.source.check_pixels(frame.width, frame.height)
        image = _upright_rgb(frame, self.shape[:2], self.reformatter)
        for position in positions:
            self.frames[position] = image
            self.ticks[position] = frame.pts
            self.numbers[position] = number

    def _make_room(self, count: int) -> None:
        _check_size(self.source, (count, *self.shape), self.max_bytes)
        if count > len(self.frames):
            # In place: a list that is stacked at the end would need all the memory twice.
            self.frames.resize((count + count // 2, *self.shape), refcheck=False)
        self.ticks.append(None)
        self.numbers.append(0)

    def seconds(self) -> np.ndarray:
        return np.array([float((ticks - self.first_ticks) * self.source.time_base) for ticks in self.ticks])

    def with_numbers(self) -> VideoFrames:
        """The result of counting: where frames have no times in order, their time is number / frame rate."""
        numbers = np.array(self.numbers, dtype=np.int64)
        if self.grows:
            self.frames.resize((len(numbers), *self.shape), refcheck=False)
        seconds = self.seconds() if self.in_order else numbers / float(self.source.counting_rate)
        return VideoFrames(frames=self.frames, seconds=seconds, indices=numbers)


# ---- pixels ----


def _orientation(frame) -> tuple[bool, bool, bool]:
    """How a stored frame becomes upright: swap rows and columns, then flip rows, then flip columns."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that PyAV has no name for
        data = None
    if data is None:
        return False, False, False
    # x' = a x + c y and y' = b x + d y; angles other than quarter turns are taken for the nearest one.
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def _rotation_degrees(frame) -> int:
    return round(-frame.rotation / 90) * 90 % 360


def _upright_shape(frame) -> tuple[int, int]:
    """(height, width) of a frame after rotation."""
    swap, _, _ = _orientation(frame)
    return (frame.width, frame.height) if swap else (frame.height, frame.width)


def _upright_rgb(frame, shape: tuple[int, int], reformatter: VideoReformatter) -> np.ndarray:
    """(H, W, 3) uint8 RGB, converted with the frame's own colour matrix and range, scaled to `shape` if it differs."""
    swap, flip_rows, flip_columns = _orientation(frame)
    height, width = shape[::-1] if swap else shape
    image = reformatter.reformat(frame, format="rgb24", width=width, height=height, **SCALER_OPTIONS).to_ndarray()
    image = image.transpose(1, 0, 2) if swap else image
    return image[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


# ---- measuring ----


def _measure(source: VideoSource, first) -> tuple[float, int | None]:
    """Seconds and frame count from the packets: all of a short file's, those at the end of a long one's."""
    stream, expected = source.stream, _header_ticks(source)
    is_large = source.container.size > MEASURED_WHOLE_BYTES
    is_long = expected and (is_large or expected * source.time_base > MEASURED_WHOLE_SECONDS)
    if is_long and source.has_timestamps and first.pts is not None:
        end = _end_near(source, first.pts, first.pts + expected)
        if end is not None:
            differs = abs(end - first.pts - expected) * source.time_base * source.counting_rate >= 1
            if is_large or not differs:
                return float((end - first.pts) * source.time_base), None if differs else stream.frames or None
    source.rewind()
    count, end = _read_to_end(source)
    if not source.has_timestamps or first.pts is None or end is None:
        return float(count / source.counting_rate), None
    return float((end - first.pts) * source.time_base), count


def _header_ticks(source: VideoSource) -> int | None:
    """The duration that the header names, in ticks."""
    if source.stream.duration is None and source.container.duration:
        return int(Fraction(source.container.duration, av.time_base) / source.time_base)
    return source.stream.duration


def _end_near(source: VideoSource, start: int, expected_end: int) -> int | None:
    """Where the last packet's frame ends, sought from ever earlier before the time that the header names."""
    lead = int(SEEK_DISTANCE_SECONDS / source.time_base)
    while lead < expected_end - start and source.seek(expected_end - lead):
        end = _read_to_end(source)[1]
        if end is not None:
            return end
        lead *= 4
    return None


def _read_to_end(source: VideoSource) -> tuple[int, int | None]:
    """Number of shown packets from here on, and where the last one's frame ends, in ticks."""
    count, end = 0, None
    frame_ticks = int(1 / (source.counting_rate * source.time_base))
    while (packet := source.read_packet()) is not None:
        if packet.is_discard:
            continue
        count += 1
        if packet.pts is not None:
            packet_end = packet.pts + (packet.duration or frame_ticks)
            end = packet_end if end is None else max(end, packet_end)
    return count, end
