"""Small videos for tests, written with PyAV, and files that look like videos but are none."""

import io
import shutil
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fal_hf.model.video_info import VideoInfo

# What is known of a video of 10 seconds at 25 frames a second, where no file is needed.
VIDEO_INFO = VideoInfo(
    width=64,
    height=48,
    start_seconds=0.0,
    duration_seconds=10.0,
    num_frames=250,
    frame_rate=25.0,
    is_steady=True,
    rotation_degrees=0,
    codec="h264",
    pixel_format="yuv420p",
)


def moving_frames(count: int, *, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8: a coarse random picture that moves, every frame unlike all others."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(32, 224, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    frames = np.stack([np.roll(picture, (index, 2 * index), axis=(0, 1)) for index in range(count)])
    frames[:, : height // 4, : width // 4] = (np.arange(count) * 7 % 256)[:, None, None, None]
    return frames


def write_video(
    path: Path | str,
    frames: Iterable[np.ndarray],
    *,
    rate: int | Fraction = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation_degrees: int = 0,
    audio_seconds: float = 0.0,
    gop_size: int | None = None,
) -> Path:
    """Encodes (H, W, 3) uint8 RGB frames.

    pts are in units of time_base (default: 1 / rate, one a frame). rotation_degrees is counter-clockwise, as display
    matrices have it. A silent audio stream is added where audio_seconds is positive.
    """
    frames = list(frames)
    with av.open(str(path), mode="w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base or Fraction(1) / rate
        stream.options = options or {}
        # One thread: the same bytes on every machine.
        stream.codec_context.thread_count = 1
        if gop_size is not None:
            stream.codec_context.gop_size = gop_size
        if rotation_degrees:
            stream.set_display_rotation(rotation_degrees)
        audio = container.add_stream("aac", rate=16000, layout="mono") if audio_seconds else None
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = index if pts is None else pts[index]
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            _write_silence(container, audio, seconds=audio_seconds)
    return Path(path)


def write_collection(folder: Path) -> Path:
    """24 videos of different lengths, a broken one, and a link to one of them; returns the folder."""
    for number in range(6):
        first = write_video(folder / f"{number}_0.mp4", moving_frames(10 + 15 * number, seed=number))
        for copy in range(1, 4):
            shutil.copy(first, folder / f"{number}_{copy}.mp4")
    (folder / "broken.mp4").write_text("no video")
    (folder / "link.mp4").symlink_to("0_0.mp4")
    return folder


def repeat_video(source: Path, target: Path, *, repetitions: int) -> Path:
    """The packets of a video over and over: a long file in a moment."""
    with av.open(str(target), mode="w") as container:
        stream, offset = None, 0
        for _ in range(repetitions):
            with av.open(str(source)) as once:
                video = once.streams.video[0]
                stream = stream or container.add_stream_from_template(video)
                for packet in once.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    container.mux(packet)
                offset += video.duration
    return target


def _write_silence(container, stream, *, seconds: float) -> None:
    rate, size = stream.codec_context.sample_rate, 1024
    for start in range(0, int(seconds * rate), size):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, size), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_audio(path: Path | str, *, codec: str, seconds: float = 0.5, cover: bool = False) -> Path:
    """A silent audio file, with a cover picture where asked for."""
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream(codec, rate=16000, layout="mono")
        art = container.add_stream("mjpeg", rate=1) if cover else None
        if art is not None:
            art.width = art.height = 64
            art.pix_fmt = "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
            container.mux([*art.encode(picture), *art.encode(None)])
        sample_format = stream.codec_context.format.name
        dtype = {"s16": np.int16, "s32": np.int32}.get(sample_format.rstrip("p"), np.float32)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, int(seconds * 16000), size):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, size), dtype), format=sample_format, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def change_bytes(source: Path, target: Path, *, begin: float, end: float = 1.0, seed: int | None = 0) -> Path:
    """A copy whose bytes between two shares of the file are random, or zero where seed is None."""
    data = bytearray(source.read_bytes())
    first, last = int(begin * len(data)), int(end * len(data))
    noise = bytes(last - first) if seed is None else np.random.default_rng(seed).bytes(last - first)
    data[first:last] = noise
    target.write_bytes(data)
    return target


def cut_bytes(source: Path, target: Path, *, share: float) -> Path:
    """A copy of the first share of a file."""
    data = source.read_bytes()
    target.write_bytes(data[: int(share * len(data))])
    return target


class SlowStartFile(io.BytesIO):
    """A file object that must be rewound before it is read: it starts at its end, as after being written."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.seek(0, io.SEEK_END)
