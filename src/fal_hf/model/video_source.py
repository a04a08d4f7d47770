"""A video file as packets: opening it without trust, and finding the frame on display at an instant.

* Packets are read ahead of the decoder, everything before the last keyframe at or before the instant is dropped, far
  instants are reached by a seek, and frames that no other frame refers to are skipped on the way. A frame counts only
  if it is the one that the packets announce for the instant; otherwise it is looked for again without these shortcuts.
* Damage is an error where it hides more than half a second; shorter losses and the smears that follow a damaged
  place until the next keyframe are shown as players show them.
"""

import io
import os
import sys
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av

Video = str | Path | bytes | BinaryIO
# A player shows the previous frame where a few are damaged; for longer stretches that would be a made-up still.
LONGEST_LOSS_SECONDS = 0.5
# Up to here it costs less to read the packets in between than to seek.
SEEK_DISTANCE_SECONDS = 10.0
READ_AHEAD_PACKETS = 1024
READ_AHEAD_BYTES = 32 * 2**20
NETWORK_TIMEOUT_SECONDS = 30.0
RESYNC_ATTEMPTS = 10_000
# Up to this size handing frames from thread to thread costs more than it saves.
SINGLE_THREAD_PIXELS = 2**19
# Live sources: which protocols a URL of each scheme may use, and FFmpeg's name of a system's cameras.
LIVE_PROTOCOLS = {
    "rtsp": "rtsp,rtp,rtcp,udp,tcp,tls",
    "rtsps": "rtsps,rtsp,rtp,rtcp,udp,tcp,tls",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "srt": "srt,udp",
    "udp": "udp",
    "tcp": "tcp",
}
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
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


@contextmanager
def opened(
    video: Video, *, num_threads: int | None, max_pixels: int, is_live: bool = False
) -> Iterator["VideoSource"]:
    """A source that is closed at the end, with every failure turned into a VideoError."""
    name = _name_of(video)
    source = None
    try:
        kind = LiveSource if is_live else VideoSource
        source = kind(video, name=name, num_threads=num_threads, max_pixels=max_pixels)
        yield source
    except VideoError:
        raise
    except FAILURES as error:
        raise VideoError(name, _reason_of(error)) from error
    finally:
        if source is not None:
            source.close()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Each decoder thread delays the first frame by one and holds one more: a few suffice."""
    return min(4, available_cores())


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


def is_url(video: Video) -> bool:
    return isinstance(video, str) and video.lower().startswith(("http://", "https://"))


class VideoSource:
    """One open container and its best video stream: reads packets, decodes them, seeks."""

    def __init__(self, video: Video, *, name: str, num_threads: int | None, max_pixels: int):
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
    def can_be_reopened(self) -> bool:
        """Whether the video can be read at several places at a time, at no one else's cost."""
        if isinstance(self.video, (bytes, bytearray, memoryview)):
            return True
        return isinstance(self.video, (str, os.PathLike)) and Path(self.video).is_file()

    def reopened(self, *, num_threads: int) -> "VideoSource":
        """The same video, opened once more; to be closed by the caller."""
        return VideoSource(self.video, name=self.name, num_threads=num_threads, max_pixels=self.max_pixels)

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
        is_small = context.width * context.height <= SINGLE_THREAD_PIXELS
        context.thread_count = self.num_threads or (1 if is_small else default_threads())
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
        if not is_url(video):
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


class LiveSource(VideoSource):
    """A camera or a network stream, whose packets come once; or a file, which is read from its beginning."""

    def _open_container(self):
        scheme = live_scheme(self.video)
        if scheme is None:
            return super()._open_container()
        options = {"max_pixels": str(self.max_pixels), "analyzeduration": "1000000"}  # microseconds before it begins
        if scheme == "camera":
            device = self.video.removeprefix("camera:")
            return av.open(device, mode="r", format=CAMERA_FORMATS[sys.platform], options=options)
        options["protocol_whitelist"] = LIVE_PROTOCOLS[scheme]
        if scheme == "rtsp":
            options["rtsp_transport"] = "tcp"  # UDP loses packets, and a picture shows that for seconds
        return av.open(self.video, mode="r", options=options, timeout=NETWORK_TIMEOUT_SECONDS)


def live_scheme(video: Video) -> str | None:
    """What kind of live source a name is: "camera" or a key of LIVE_PROTOCOLS; None for a file."""
    if not isinstance(video, str):
        return None
    if video.startswith(("camera:", "/dev/video")):
        return "camera"
    scheme = video.partition("://")[0].lower() if "://" in video else None
    return scheme if scheme in LIVE_PROTOCOLS else None


def _key_of(packet) -> tuple:
    return packet.pts, packet.dts, packet.size


def _time_of(packet) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


# ---- finding frames ----


class MustCount(Exception):
    """Times do not lead to the frames of this video: they have to be counted from the start."""


class Playhead:
    """Finds the frame on display at instants that never go back.

    Packets wait in `ahead` before they are decoded, decoded frames wait in `frames`, and `held` is the frame on
    display so far. `times` are the presentation times, in order, of all packets read since the last jump: they tell
    which frame is to be on display. Times are in ticks of the stream's time base.
    """

    def __init__(self, source: VideoSource):
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
            raise MustCount
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
            raise MustCount
        # Frames shown before the keyframe that decoding began at refer to frames that were never decoded.
        if self.anchor is not None and frame.pts < self.anchor:
            return
        before = self.frames[-1] if self.frames else self.held
        if before is not None and frame.pts < before.pts:
            raise MustCount
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
