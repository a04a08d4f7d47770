"""Reads frames out of video files: upright RGB at given instants or frame numbers.

What is unusual here:

* The frame at instant `s` is the one on display then: the last frame whose presentation time is at most `s`.
  Instants count from the first frame, whatever time the container starts at.
* Nothing that a header says is believed. Sizes come from a decoded frame, the duration from the packets at the end
  of the file, and the output grows with the frames that really decode.
* Only what is needed is decoded: packets are read ahead of the decoder, everything before the last keyframe at or
  before the instant is dropped, far instants are reached by a seek, and frames that no other frame refers to are
  skipped on the way. A frame is returned only if it is the one that the packets announce for the instant; otherwise
  it is looked for again without these shortcuts.
* Damage is an error where it hides more than half a second; shorter losses and the smears that follow a damaged
  place until the next keyframe are shown as players show them.
* Whatever is wrong with a video becomes a `VideoError` that names the video and the reason.

Frames keep their stored pixels: no tone mapping of HDR (its matrix and range are applied, its brightness curve stays)
and no stretching of non-square pixels.
"""

import io
import math
import os
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter

Video = str | Path | bytes | BinaryIO

# An instant this little before a frame's time counts as that frame's: users round instants, frames rarely last less.
INSTANT_TOLERANCE_SECONDS = 1e-6
# A player shows the previous frame where a few are damaged; for longer stretches that would be a made-up still.
LONGEST_LOSS_SECONDS = 0.5
# Up to here it costs less to read the packets in between than to seek.
SEEK_DISTANCE_SECONDS = 10.0
# Files up to this size are read through once to be measured; of larger ones only the end is.
MEASURED_WHOLE_BYTES = 16 * 2**20
READ_AHEAD_PACKETS = 1024
READ_AHEAD_BYTES = 32 * 2**20
NETWORK_TIMEOUT_SECONDS = 30.0
RESYNC_ATTEMPTS = 10_000
# Starting threads for each frame costs more than they save; releases without the option start none.
SCALER_OPTIONS = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}
# Demuxers that render text as video; a text file is not a video.
TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
FAILURES = (av.FFmpegError, OSError, EOFError, MemoryError, UnicodeError, ValueError, OverflowError)


class VideoError(ValueError):
    """A video that cannot be read as asked; `.video` is its name and `.reason` says why."""

    def __init__(self, video: str, reason: str):
        super().__init__(f"{video}: {reason}")
        self.video = video
        self.reason = reason

    def __reduce__(self):
        # Data loaders send exceptions between processes; the default would call us with the message alone.
        return type(self), (self.video, self.reason)


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
        num_threads: decoder threads; None: as many as this process may use, 4 at most.
        max_pixels_per_frame: larger frames are refused before they are decoded.

    Raises:
        VideoError: the file cannot be read, holds no video, or none of its frames decodes.
    """
    with _opened(video, num_threads=num_threads, max_pixels=max_pixels_per_frame) as source:
        first = _Playhead(source).first_frame()
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
        num_threads: decoder threads; None: as many as this process may use, 4 at most.
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
    with _opened(video, num_threads=num_threads, max_pixels=max_pixels_per_frame) as source:
        if seconds is not None:
            return _read_instants(source, seconds, max_output_bytes)
        if indices is not None:
            return _read_numbers(source, indices, max_output_bytes)
        return _read_counted(source, None, max_output_bytes)


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


# ---- the file ----


@contextmanager
def _opened(video: Video, *, num_threads: int | None, max_pixels: int) -> Iterator["_Source"]:
    """A source that is closed at the end, with every failure turned into a VideoError."""
    name = _name_of(video)
    source = None
    try:
        source = _Source(video, name=name, num_threads=num_threads or _default_threads(), max_pixels=max_pixels)
        yield source
    except VideoError:
        raise
    except FAILURES as error:
        raise VideoError(name, _reason_of(error)) from error
    finally:
        if source is not None:
            source.close()


def _default_threads() -> int:
    """Each decoder thread delays the first frame by one and holds one more: a few suffice."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, available)


def _name_of(video: Video) -> str:
    if isinstance(video, (str, os.PathLike)):
        return os.fspath(video)
    if isinstance(video, (bytes, bytearray, memoryview)):
        return f"video of {len(video)} bytes"
    if hasattr(video, "read") and hasattr(video, "seek"):
        return str(getattr(video, "name", None) or f"{type(video).__name__} object")
    raise TypeError(f"expected a path, a URL, bytes or a seekable binary file object, got {type(video).__name__}")


def _reason_of(error: BaseException) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "not a video, or one that is damaged beyond reading (invalid data)"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_url(video: Video) -> bool:
    return isinstance(video, str) and video.lower().startswith(("http://", "https://"))


class _Source:
    """One open container and its best video stream: reads packets, decodes them, seeks."""

    def __init__(self, video: Video, *, name: str, num_threads: int, max_pixels: int):
        self.video = video
        self.name = name
        self.num_threads = num_threads
        self.max_pixels = max_pixels
        self.container = None
        self._open()

    def error(self, reason: str) -> VideoError:
        return VideoError(self.name, reason)

    def no_frame_error(self) -> VideoError:
        why = f" ({_reason_of(self.last_error)})" if self.last_error else ""
        return self.error(f"holds no frame that can be decoded{why}")

    @property
    def counting_rate(self) -> Fraction:
        """Frames per second for videos without times; 25 is what FFmpeg takes where nothing is known."""
        return self.frame_rate or Fraction(25)

    def _open(self) -> None:
        self.close()
        self.container = self._open_container()
        self.stream = self._best_stream()
        context = self.stream.codec_context
        self.check_pixels(context.width, context.height)
        context.options = {"max_pixels": str(self.max_pixels)}
        context.thread_type = "AUTO"
        context.thread_count = self.num_threads
        self.time_base: Fraction = self.stream.time_base
        self.frame_rate: Fraction | None = self.stream.average_rate or self.stream.guessed_rate or None
        # AVI stores no presentation times, and the ones made up for reordered frames are not in order.
        self.has_timestamps = not (self.container.format.name == "avi" and context.has_b_frames)
        self.first_packet_key = None
        self.last_error: BaseException | None = None
        self.is_damaged = False
        self._packets = self.container.demux(self.stream)

    def _open_container(self):
        video, timeout, protocols = self.video, NETWORK_TIMEOUT_SECONDS, "http,https,tls,tcp,crypto,httpproxy"
        if not _is_url(video):
            # A playlist in disguise must not make us read other places.
            video, timeout, protocols = self._local_file(), None, "file"
        options = {"max_pixels": str(self.max_pixels), "protocol_whitelist": protocols}
        return av.open(video, mode="r", options=options, metadata_errors="replace", timeout=timeout)

    def _local_file(self) -> str | BinaryIO:
        """What av opens: a path that it cannot take for a protocol's name, or a file object at its beginning."""
        video = self.video
        if isinstance(video, (bytes, bytearray, memoryview)):
            video = io.BytesIO(video)
        if isinstance(video, (str, os.PathLike)):
            path = Path(video)
            if not path.exists():
                raise self.error("no such file")
            if path.is_dir():
                raise self.error("is a folder, not a video file")
            if path.is_file() and path.stat().st_size == 0:
                raise self.error("is empty")
            return f"file:{path}"
        if video.seek(0, io.SEEK_END) == 0:
            raise self.error("is empty")
        video.seek(0)
        return video

    def check_pixels(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise self.error(f"frames of {width} x {height} pixels are over max_pixels_per_frame = {self.max_pixels}")

    def _best_stream(self):
        if TEXT_FORMATS & set(self.container.format.name.split(",")):
            raise self.error("holds text, not video")
        streams = [s for s in self.container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            held = sorted({s.type for s in self.container.streams}) or ["nothing"]
            what = "only cover art beside audio" if "video" in held else f"only {', '.join(held)}"
            raise self.error(f"holds no video stream, {what}")
        best = self.container.streams.best("video")
        best = best if best in streams else streams[0]
        if best.codec_context is None:
            raise self.error("no decoder for its video codec")
        return best

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
            self.container = None

    def read_packet(self):
        """The next whole packet of the stream, or None at the end of what can be read."""
        for _ in range(RESYNC_ATTEMPTS):
            try:
                return self._next_whole_packet()
            except av.error.BlockingIOError:
                # So says the MPEG-TS demuxer after 64 KiB of rubbish: the next call looks further.
                self._packets = self.container.demux(self.stream)
            except av.error.InvalidDataError as error:
                self.last_error = error
                self.is_damaged = True
                return None
        return None

    def _next_whole_packet(self):
        for packet in self._packets:
            self.is_damaged |= packet.is_corrupt
            if packet.size == 0 or packet.is_corrupt:
                continue
            if self.first_packet_key is None:
                self.first_packet_key = _key_of(packet)
            return packet
        return None

    def decode(self, packet, *, skip_unreferenced: bool = False) -> list:
        """Frames that come out of the decoder for a packet, or for None its last ones; damaged frames are left out."""
        context = self.stream.codec_context
        context.skip_frame = "NONREF" if skip_unreferenced else "DEFAULT"
        try:
            frames = context.decode(packet)
        except (av.error.MemoryError, av.error.PyAVCallbackError):
            raise
        except av.FFmpegError as error:
            self.last_error = error
            return []
        return [frame for frame in frames if not frame.is_corrupt]

    def flush(self) -> None:
        self.stream.codec_context.flush_buffers()

    def seek(self, ticks: int) -> bool:
        """Goes to a packet at or before `ticks`, as far as the container manages; False where it cannot seek."""
        try:
            self.container.seek(ticks, stream=self.stream, backward=True)
        except FAILURES:
            return False
        self._packets = self.container.demux(self.stream)
        return True

    def rewind(self) -> None:
        """Goes back to the first packet, by opening the file again where a seek does not lead there."""
        first = self.first_packet_key
        if first is None:
            return
        begin = min(ticks for ticks in (*first[:2], 0) if ticks is not None)
        if self.seek(begin):
            packet = self.read_packet()
            if packet is not None and _key_of(packet) == first and self.seek(begin):
                return
        self._open()


def _key_of(packet) -> tuple:
    return packet.pts, packet.dts, packet.size


def _time_of(packet) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


# ---- finding frames ----


class _MustCount(Exception):
    """Times do not lead to the frames of this video: they have to be counted from the start."""


class _Playhead:
    """Finds the frame on display at instants that never go back.

    Packets wait in `ahead` before they are decoded, decoded frames wait in `frames`, and `held` is the frame on
    display so far. `times` are the presentation times, in order, of all packets read since the last jump: they tell
    which frame is to be on display. Times are in ticks of the stream's time base.
    """

    def __init__(self, source: _Source):
        self.source = source
        self.ticks_per_second = 1 / source.time_base
        self.lead_ticks = 0
        self.longest_gop = 0
        self.shortcuts = True
        self._forget()

    def _forget(self) -> None:
        """Back to knowing nothing of the packets and frames around the current position."""
        self.ahead = deque()
        self.ahead_bytes = 0
        self.frames = deque()
        self.held = None
        self.times: list[int] = []
        self.anchor: int | None = None
        self.wait_for_keyframe = False
        self.flush_first = False
        self.last_dts: int | None = None
        self.last_keyframe: int | None = None
        self.end: int | None = None
        self.all_read = False
        self.all_decoded = False

    def _ticks(self, seconds: float) -> int:
        return int(seconds * self.ticks_per_second)

    def first_frame(self):
        """Decodes the first frame, which stays in `frames`."""
        while not self.frames:
            if self.all_decoded:
                raise self.source.no_frame_error()
            self._read_packet(None)
            self._decode_packet(skip_unreferenced=False)
        self.start = self.frames[0].pts
        return self.frames[0]

    def frame_at(self, ticks: int):
        """The frame on display at an instant, or a VideoError if the video has none."""
        if self._is_far(ticks):
            self._seek_before(ticks)
        self._advance(ticks)
        if self._missing(ticks):
            self._look_again(ticks)
        self._check_end(ticks)
        if self._is_lost(ticks):
            raise self.source.error(self._loss(ticks))
        return self.held

    def _is_far(self, ticks: int) -> bool:
        if not self.shortcuts or self.all_read or self.last_dts is None:
            return False
        return ticks - self.last_dts > max(self._ticks(SEEK_DISTANCE_SECONDS), self.longest_gop)

    def _wanted(self, ticks: int) -> int | None:
        """The time of the frame on display at an instant, as far as packets have been read."""
        position = bisect_right(self.times, ticks)
        return self.times[position - 1] if position else None

    def _missing(self, ticks: int) -> bool:
        wanted = self._wanted(ticks)
        return self.held is None or (wanted is not None and self.held.pts < wanted)

    # reading ahead

    def _read_ahead(self, ticks: int) -> None:
        """Reads packets until none can follow that is shown at or before `ticks`, within the limits."""
        while not self.all_read and (self.last_dts is None or self.last_dts <= ticks):
            if len(self.ahead) >= READ_AHEAD_PACKETS or self.ahead_bytes >= READ_AHEAD_BYTES:
                return
            self._read_packet(ticks)

    def _read_packet(self, ticks: int | None) -> None:
        """Reads one packet; drops what was before it if it is a keyframe at or before `ticks`."""
        packet = self.source.read_packet()
        if packet is None:
            self.all_read = True
            return
        time = _time_of(packet)
        if time is None:
            raise _MustCount
        self.last_dts = packet.dts
        if packet.is_keyframe:
            self.last_keyframe = time
            if self.shortcuts and ticks is not None and time <= ticks:
                self._start_at(packet)
        elif self.last_keyframe is not None:
            self.longest_gop = max(self.longest_gop, time - self.last_keyframe)
        if not self.wait_for_keyframe:
            self._append(packet, time)

    def _append(self, packet, time: int) -> None:
        self.ahead.append(packet)
        self.ahead_bytes += packet.size
        if packet.is_discard:
            return
        insort(self.times, time)
        self.end = max(self.end or time, time + (packet.duration or self._frame_ticks()))

    def _frame_ticks(self) -> int:
        rate = self.source.frame_rate
        return int(self.ticks_per_second / rate) if rate else 0

    def _start_at(self, keyframe) -> None:
        """Drops everything before a keyframe: from there on, frames do not depend on what was before."""
        self.ahead.clear()
        self.ahead_bytes = 0
        self.frames.clear()
        self.held = None
        self.times.clear()
        self.anchor = _time_of(keyframe)
        self.wait_for_keyframe = False
        self.flush_first = True

    def _drop_passed(self, ticks: int) -> None:
        """Jumps to the last keyframe at or before `ticks` among the packets that were read ahead earlier."""
        packets = list(self.ahead)
        for position in range(len(packets) - 1, -1, -1):
            if packets[position].is_keyframe and _time_of(packets[position]) <= ticks:
                self._start_at(packets[position])
                for packet in packets[position:]:
                    self._append(packet, _time_of(packet))
                return

    # decoding

    def _advance(self, ticks: int) -> None:
        """Decodes until `held` is the frame on display at `ticks`, or until no more frames can be it."""
        if self.shortcuts:
            self._drop_passed(ticks)
        while True:
            self._read_ahead(ticks)
            wanted = self._wanted(ticks)
            if self.held is not None and self.held.pts == wanted and self._no_more_until(ticks):
                return
            if self.frames:
                if self.frames[0].pts > ticks:
                    return
                self.held = self.frames.popleft()
            elif self.all_decoded:
                return
            elif not self.ahead and not self.all_read:
                self._read_packet(ticks)  # a delayed frame comes out when later packets go in
            else:
                self._decode_packet(skip_unreferenced=self.shortcuts, wanted=wanted)

    def _no_more_until(self, ticks: int) -> bool:
        return self.all_read or (self.last_dts is not None and self.last_dts > ticks)

    def _decode_packet(self, *, skip_unreferenced: bool, wanted: int | None = None) -> None:
        if self.flush_first:
            self.source.flush()
            self.flush_first = False
        packet = self.ahead.popleft() if self.ahead else None
        if packet is None:
            self.all_decoded = True
        else:
            self.ahead_bytes -= packet.size
        # Frames from the wanted one on are kept: the next instants may be theirs.
        skip = skip_unreferenced and packet is not None and wanted is not None and _time_of(packet) < wanted
        for frame in self.source.decode(packet, skip_unreferenced=skip):
            self._add_frame(frame)

    def _add_frame(self, frame) -> None:
        if frame.pts is None:
            raise _MustCount
        # Frames shown before the keyframe that decoding began at refer to frames that were never decoded.
        if self.anchor is not None and frame.pts < self.anchor:
            return
        before = self.frames[-1] if self.frames else self.held
        if before is not None and frame.pts < before.pts:
            raise _MustCount
        self.frames.append(frame)

    # jumping

    def _seek_before(self, ticks: int) -> None:
        """Goes to a keyframe at or before an instant; to the start where no seek leads to one."""
        lead = self.lead_ticks
        step = self._ticks(SEEK_DISTANCE_SECONDS) // 2
        while ticks - lead > 0 and self.source.seek(ticks - lead):
            self._forget()
            self.wait_for_keyframe = True
            self._read_ahead(ticks)
            if self.anchor is not None:
                self.lead_ticks = lead
                self.flush_first = False
                return
            lead = max(step, 4 * lead)
        self._go_to_start()

    def _go_to_start(self) -> None:
        self.source.rewind()
        self._forget()

    def _look_again(self, ticks: int) -> None:
        """Looks for a frame that did not come: from its keyframe, else from the start, with nothing skipped."""
        if self.shortcuts:
            self._seek_before(ticks)
            self.shortcuts = False
            self._advance(ticks)
            self.shortcuts = self.held is not None
        if self.held is None:
            self._go_to_start()
            self._advance(ticks)

    def _is_lost(self, ticks: int) -> bool:
        """Whether a frame is held for long where the file is damaged, and not because the next one comes late."""
        if self.held is None:
            return True
        longest = max(self._ticks(LONGEST_LOSS_SECONDS), 2 * self._frame_ticks())
        return ticks - self.held.pts > longest and (self._missing(ticks) or self.source.is_damaged)

    # what to say

    def _seconds(self, ticks: int) -> float:
        return float((ticks - self.start) * self.source.time_base)

    def _loss(self, ticks: int) -> str:
        last = "the start" if self.held is None else f"{self._seconds(self.held.pts):.3f} s"
        return f"is damaged: no frame can be decoded between {last} and the instant {self._seconds(ticks):.3f} s"

    def _check_end(self, ticks: int) -> None:
        if self.all_read and self.end is not None and ticks > self.end + self._frame_ticks():
            end, asked = self._seconds(self.end), self._seconds(ticks)
            raise self.source.error(f"ends at {end:.3f} s, before the instant {asked:.3f} s that was asked for")


def _numbered_frames(source: _Source) -> Iterator[tuple[int, av.VideoFrame]]:
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


def _read_instants(source: _Source, seconds: np.ndarray, max_bytes: int) -> VideoFrames:
    seconds = np.maximum(seconds + INSTANT_TOLERANCE_SECONDS, 0.0)
    if source.has_timestamps:
        try:
            per_second = float(1 / source.time_base)
            return _read_ticks(source, [math.floor(instant * per_second) for instant in seconds], max_bytes)
        except _MustCount:
            pass
    numbers = [math.floor(instant * source.counting_rate) for instant in seconds]
    return _read_counted(source, numbers, max_bytes, hold_last=True)


def _read_numbers(source: _Source, indices: np.ndarray, max_bytes: int) -> VideoFrames:
    """Takes frame numbers for the order of presentation times; where that proves wrong, counts decoded frames."""
    if source.has_timestamps:
        try:
            times = _packet_times(source, int(indices.max()) + 1)
            ticks = [times[index] - times[0] for index in indices]
            found = _read_ticks(source, ticks, max_bytes, exact=True)
            return VideoFrames(frames=found.frames, seconds=found.seconds, indices=indices)
        except _MustCount:
            pass
    return _read_counted(source, indices.tolist(), max_bytes)


def _read_ticks(source: _Source, ticks: list[int], max_bytes: int, *, exact: bool = False) -> VideoFrames:
    """Frames on display at some ticks after the first frame; exact: they must begin at these ticks."""
    playhead = _Playhead(source)
    output = _Output(source, playhead.first_frame(), max_bytes, count=len(ticks), room=len(ticks))
    for tick, positions in _positions_of(ticks).items():
        frame = playhead.frame_at(playhead.start + tick)
        if exact and frame.pts != playhead.start + tick:
            raise _MustCount
        output.put(positions, frame)
    return VideoFrames(frames=output.frames, seconds=output.seconds(), indices=None)


def _packet_times(source: _Source, count: int) -> list[int]:
    """Presentation times of at least the first `count` frames, in order, read from the packets alone."""
    times: list[int] = []
    dts = None
    while len(times) < count or dts is None or dts <= times[count - 1]:
        packet = source.read_packet()
        if packet is None:
            break
        if packet.pts is None:
            raise _MustCount
        dts = packet.dts
        if not packet.is_discard:
            insort(times, packet.pts)
    source.rewind()
    if len(times) < count or len(set(times)) < len(times):
        raise _MustCount
    return times


def _read_counted(
    source: _Source, numbers: list[int] | None, max_bytes: int, *, hold_last: bool = False
) -> VideoFrames:
    """Frames by number, or all, everything before them decoded; hold_last: one past the end gives the last frame."""
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
    if wanted and hold_last:
        output.put(wanted.pop(number + 1, []), frame, number=number)
    if wanted:
        raise source.error(f"has {number + 1} frames, number {max(wanted)} (from 0) was asked for")
    return output.with_numbers()


def _room_for_all(source: _Source) -> int:
    """How many frames to expect, from the packets that are really there; a remote file is not read twice for that."""
    if _is_url(source.video):
        return 1
    source.rewind()
    return max(1, _read_to_end(source)[0])


def _positions_of(values: list[int]) -> dict[int, list[int]]:
    """Where each distinct value stands in a list, by rising value."""
    positions: dict[int, list[int]] = {}
    for position in np.argsort(values, kind="stable").tolist():
        positions.setdefault(int(values[position]), []).append(position)
    return positions


class _Output:
    """The result as it grows: converts a frame once and puts it wherever it was asked for."""

    def __init__(self, source: _Source, first, max_bytes: int, *, count: int | None, room: int):
        self.source = source
        self.max_bytes = max_bytes
        self.shape = (*_upright_shape(first), 3)
        self.grows = count is None
        self._check_size(room)
        self.frames = np.empty((room, *self.shape), np.uint8)
        self.reformatter = VideoReformatter()
        self.ticks: list[int | None] = [None] * (count or 0)
        self.numbers: list[int] = [0] * (count or 0)
        self.first_ticks = self.last_ticks = first.pts
        self.in_order = source.has_timestamps

    def _check_size(self, count: int) -> None:
        size = count * math.prod(self.shape)
        if size > self.max_bytes:
            what = f"{count} frames of {self.shape[1]} x {self.shape[0]} take {size} bytes"
            raise self.source.error(f"{what}, over max_output_bytes = {self.max_bytes}: ask for fewer frames")

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
        self._check_size(count)
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


def _measure(source: _Source, first) -> tuple[float, int | None]:
    """Seconds and frame count from the packets: all of a small file's, those at the end of a large one's."""
    stream, expected = source.stream, _header_ticks(source)
    if source.has_timestamps and first.pts is not None and expected and source.container.size > MEASURED_WHOLE_BYTES:
        end = _end_near(source, first.pts, first.pts + expected)
        if end is not None:
            differs = abs(end - first.pts - expected) * source.time_base * source.counting_rate >= 1
            return float((end - first.pts) * source.time_base), None if differs else stream.frames or None
    source.rewind()
    count, end = _read_to_end(source)
    if not source.has_timestamps or first.pts is None or end is None:
        return float(count / source.counting_rate), None
    return float((end - first.pts) * source.time_base), count


def _header_ticks(source: _Source) -> int | None:
    """The duration that the header names, in ticks."""
    if source.stream.duration is None and source.container.duration:
        return int(Fraction(source.container.duration, av.time_base) / source.time_base)
    return source.stream.duration


def _end_near(source: _Source, start: int, expected_end: int) -> int | None:
    """Where the last packet's frame ends, sought from ever earlier before the time that the header names."""
    lead = int(SEEK_DISTANCE_SECONDS / source.time_base)
    while lead < expected_end - start and source.seek(expected_end - lead):
        end = _read_to_end(source)[1]
        if end is not None:
            return end
        lead *= 4
    return None


def _read_to_end(source: _Source) -> tuple[int, int | None]:
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
