"""A video as packets: what it is called, opening it without trust, reading packets, decoding them, seeking."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

Video = str | Path | bytes | BinaryIO
NETWORK_TIMEOUT_SECONDS = 30.0
RESYNC_ATTEMPTS = 10_000
# Up to this size handing frames from thread to thread costs more than it saves.
SINGLE_THREAD_PIXELS = 2**19
# Containers that are looked for in folders; a file that is named is taken whatever it is called.
VIDEO_SUFFIXES = frozenset(
    {
        *{".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"},
        *{".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"},
    }
)
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
# Demuxers of scripts and playlists: what they play are other files and places.
SCRIPT_FORMATS = frozenset({"concat", "hls", "applehttp", "dash", "lavfi", "imf", "webm_dash_manifest"})
# Demuxers that render text as video; a text file is not a video.
TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
FAILURES = (av.error.FFmpegError, OSError, EOFError, MemoryError, UnicodeError, ValueError, OverflowError)


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
def reported(name: str) -> Iterator[None]:
    """Turns every failure to read a video into a VideoError."""
    try:
        yield
    except VideoError:
        raise
    except FAILURES as error:
        raise VideoError(name, _reason_of(error)) from error


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Each decoder thread delays the first frame by one and holds one more: a few suffice."""
    return min(4, available_cores())


def name_of(video: Video) -> str:
    """
    What a video is called in messages and results: its path or URL, the name of a file object, the size of bytes.

    Raises:
        TypeError: it is none of these.
    """
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


def is_video_name(name: str) -> bool:
    """Whether a file of a folder is taken for a video, by its suffix."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def _as_path(video: Video) -> Video:
    """A file's URL as its path; anything else as it is."""
    if isinstance(video, str) and video.lower().startswith("file://"):
        return url2pathname(urlsplit(video).path)
    return video


def is_url(video: Video) -> bool:
    return isinstance(video, str) and video.lower().startswith(("http://", "https://"))


class VideoSource:
    """One open container and its best video stream: reads packets, decodes them, seeks."""

    def __init__(self, video: Video, *, name: str, num_threads: int | None, max_pixels: int):
        self.video = _as_path(video)
        self.name = name
        self.num_threads = num_threads
        self.max_pixels = max_pixels
        self.container = self._open_container()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

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
    def is_mp4(self) -> bool:
        """Whether it is MP4 or one of its kin, which list their frames, and how far apart they are decoded."""
        return "mp4" in self.container.format.name.split(",")

    @property
    def counting_rate(self) -> Fraction:
        """Frames per second for videos without times; 25 is what FFmpeg takes where nothing is known."""
        return self.stream.guessed_rate or self.frame_rate or Fraction(25)

    @property
    def frame_ticks(self) -> int:
        """How long a frame lasts whose packet does not say, in ticks."""
        return max(1, int(1 / (self.counting_rate * self.time_base)))

    def _begin(self) -> None:
        """Chooses the stream and sets up its decoder; nothing is known of its packets yet."""
        self.stream = self._best_stream()
        context = self.stream.codec_context
        self.check_pixels(context.width, context.height)
        context.options = {"max_pixels": str(self.max_pixels)}
        context.thread_type = "AUTO"
        is_small = context.width * context.height <= SINGLE_THREAD_PIXELS
        context.thread_count = self.num_threads or (1 if is_small else default_threads())
        self.time_base: Fraction = self.stream.time_base  # pyright: ignore[reportAttributeAccessIssue]  # always set in reading
        self.frame_rate: Fraction | None = self.stream.average_rate or self.stream.guessed_rate or None
        # AVI stores no presentation times: those that are made up for reordered frames are not in order, and where
        # none is reordered they are those of decoding.
        is_avi = self.container.format.name == "avi"
        self.has_timestamps = not (is_avi and context.has_b_frames)
        self.shows_as_decoded = is_avi and self.has_timestamps
        self.first_packet_key: tuple[int | None, int | None, int] | None = None
        self.last_error: BaseException | None = None
        self.is_damaged = False
        self._packets = self.container.demux(self.stream)

    def _open_container(self) -> InputContainer:
        video, timeout, protocols = self.video, NETWORK_TIMEOUT_SECONDS, "http,https,tls,tcp,crypto,httpproxy"
        if not is_url(video):
            # A playlist in disguise must not make us read other places.
            video, timeout, protocols = self._local_file(), None, "file"
        # The name of an image is no pattern of the names of others.
        options = {"max_pixels": str(self.max_pixels), "protocol_whitelist": protocols, "pattern_type": "none"}
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

    def _best_stream(self) -> VideoStream:
        formats = set(self.container.format.name.split(","))
        if TEXT_FORMATS & formats:
            raise self.error("holds text, not video")
        if SCRIPT_FORMATS & formats:
            raise self.error(f"is a script or playlist ({self.container.format.name}), name the videos themselves")
        streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            held = sorted({s.type for s in self.container.streams}) or ["nothing"]
            what = "only cover art beside audio" if "video" in held else f"only {', '.join(held)}"
            raise self.error(f"holds no video stream, {what}")
        likely = self.container.streams.best("video")
        best = next((s for s in streams if s == likely), streams[0])
        if best.codec_context is None:
            raise self.error("no decoder for its video codec")
        return best

    def close(self) -> None:
        self.container.close()

    def read_packet(self) -> av.Packet | None:
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

    def _next_whole_packet(self) -> av.Packet | None:
        for packet in self._packets:
            self.is_damaged |= packet.is_corrupt
            if packet.size == 0 or packet.is_corrupt:
                continue
            if self.shows_as_decoded:
                packet.pts = packet.dts
            if self.first_packet_key is None:
                self.first_packet_key = _key_of(packet)
            return packet
        return None

    def decode(self, packet: av.Packet | None, *, skip_unreferenced: bool = False) -> list[av.VideoFrame]:
        """Frames that come out of the decoder for a packet, or for None its last ones; damaged frames are left out."""
        context = self.stream.codec_context
        context.skip_frame = "NONREF" if skip_unreferenced else "DEFAULT"
        try:
            frames = context.decode(packet)
        except (av.error.MemoryError, av.error.PyAVCallbackError):
            raise
        except av.error.FFmpegError as error:
            self.last_error = error
            return []
        return [frame for frame in frames if not frame.is_corrupt]

    def decode_rest(self) -> Iterator[av.VideoFrame]:
        """All frames from here on."""
        is_over = False
        while not is_over:
            packet = self.read_packet()
            is_over = packet is None
            yield from self.decode(packet)

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
        self.close()
        self.container = self._open_container()
        self._begin()

    def restart(self) -> None:
        """Back to the first packet, with nothing known of what was read before."""
        self.rewind()
        self.is_damaged = False
        self.last_error = None


class ShownEnd:
    """
    Where the frame that is shown last ends, of the packets so far.

    In MP4 and its kin a packet lasts until the next one is decoded: where that is not when its frame is shown, this is
    how long no frame is shown, but for the packet that is decoded last.

    Attributes:
        ticks: in the stream's time base; None where no packet has a time.
    """

    def __init__(self, source: VideoSource):
        self.source = source
        self.latest: int | None = None
        self.end: int | None = None
        self.is_shown_later = False
        self.last_duration = 0

    def add(self, time: int, decoded: int | None, duration: int) -> None:
        """Notes a packet, in the order of decoding: when its frame is shown and decoded, how long it lasts."""
        self.is_shown_later |= decoded is not None and decoded != time
        self.latest = time if self.latest is None else max(self.latest, time)
        self.end = time + duration if self.end is None else max(self.end, time + duration)
        self.last_duration = duration

    @property
    def ticks(self) -> int | None:
        if self.latest is not None and self.is_shown_later and self.source.is_mp4:
            return self.latest + self.last_duration
        return self.end


class LiveSource(VideoSource):
    """A camera or a network stream, whose packets come once; or a file, which is read from its beginning."""

    def _open_container(self) -> InputContainer:
        scheme = live_scheme(self.video)  # where there is one, the source's name is all that it is
        if scheme is None:
            return super()._open_container()
        options = {"max_pixels": str(self.max_pixels), "analyzeduration": "1000000"}  # microseconds before it begins
        if scheme == "camera":
            device = self.name.removeprefix("camera:")
            return av.open(device, mode="r", format=CAMERA_FORMATS[sys.platform], options=options)
        options["protocol_whitelist"] = LIVE_PROTOCOLS[scheme]
        if scheme == "rtsp":
            options["rtsp_transport"] = "tcp"  # UDP loses packets, and a picture shows that for seconds
        return av.open(self.name, mode="r", options=options, timeout=NETWORK_TIMEOUT_SECONDS)


def live_scheme(video: Video) -> str | None:
    """What kind of live source a name is: "camera" or a key of LIVE_PROTOCOLS; None for a file."""
    if not isinstance(video, str):
        return None
    if video.startswith(("camera:", "/dev/video")):
        return "camera"
    scheme = video.partition("://")[0].lower() if "://" in video else None
    return scheme if scheme in LIVE_PROTOCOLS else None


def _key_of(packet: av.Packet) -> tuple[int | None, int | None, int]:
    return packet.pts, packet.dts, packet.size
