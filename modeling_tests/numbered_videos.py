"""Videos at random whose frames show their own number, and the truth about them: what is shown, and when."""

import itertools
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media_files import write_video

CELL_PIXELS = 32  # x265 writes past its memory for smaller pictures
ROWS, COLUMNS = 3, 4
# The number's bits fill the cells but two: a light one at the top left and a dark one at the bottom right, which a
# picture that is turned or mirrored does not show.
NUM_BITS = ROWS * COLUMNS - 2
DARK, LIGHT = 40, 215
PIXEL_FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p"}
MILLISECONDS = Fraction(1, 1000)
FRAME_RATES = (*map(Fraction, (1, 10, 24, 25)), Fraction(30000, 1001), *map(Fraction, (30, 60)))
TIMINGS = ("steady", "variable", "gap")
QUICK = {"preset": "ultrafast"}
REORDERED = {"preset": "veryfast", "bf": "3", "g": "30"}
OPEN_GOP = {"preset": "veryfast", "x264-params": "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:bframes=3:keyint=30:pools=none:frame-threads=1"}


@dataclass(frozen=True, kw_only=True)
class Format:
    """A container, and what may be in it.

    Attributes:
        encoders: name and options of each.
        time_base: of the container; None: one tick a frame.
        rates: frames a second.
        timings: how frames may follow one another: "steady", "variable", "gap".
        min_frames: FFmpeg does not know shorter files for what they are.
        can_turn, can_be_edited, can_start_late: whether it has display matrices, edit lists, a first time.
        has_all_times: whether every packet has its time; else FFmpeg reckons those between.
    """

    suffix: str
    encoders: tuple[tuple[str, dict[str, str]], ...]
    time_base: Fraction | None = None
    rates: tuple[Fraction, ...] = FRAME_RATES
    timings: tuple[str, ...] = TIMINGS
    min_frames: int = 1
    can_turn: bool = False
    can_be_edited: bool = False
    can_start_late: bool = False
    has_all_times: bool = True


H264 = (("libx264", QUICK), ("libx264", REORDERED), ("libx264", OPEN_GOP))
MPEG4 = (("mpeg4", {}),)
MJPEG = (("mjpeg", {}),)
MPEG1, MPEG2 = ("mpeg1video", {}), ("mpeg2video", {"bf": "2"})
VP8 = ("libvpx", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "8"})
MP4 = {"time_base": Fraction(1, 60000), "can_turn": True, "can_be_edited": True}  # MPEG-4 counts to 65535
TS = {"min_frames": 12, "can_start_late": True}
RAW = {"timings": ("steady",), "rates": (Fraction(25),)}
BROADCAST = {"timings": ("steady",), "rates": FRAME_RATES[2:6]}
FORMATS = (
    Format(suffix=".mp4", encoders=(*H264, ("libx265", X265), *MPEG4), **MP4),
    Format(suffix=".mov", encoders=(*H264, *MJPEG), **MP4),
    Format(suffix=".mkv", encoders=(*H264, *MPEG4, ("ffv1", {})), time_base=MILLISECONDS, can_start_late=True),
    Format(suffix=".webm", encoders=(VP8,), time_base=MILLISECONDS, can_start_late=True),
    Format(suffix=".ts", encoders=H264, time_base=Fraction(1, 90000), **TS),
    Format(suffix=".m2ts", encoders=(MPEG2,), **BROADCAST, **TS),
    Format(suffix=".flv", encoders=(*H264[:2], ("flv", {})), time_base=MILLISECONDS),
    Format(suffix=".avi", encoders=(*MPEG4, ("mpeg4", {"bf": "2"}), *MJPEG, H264[0]), timings=("steady",)),
    Format(suffix=".avi", encoders=(*MPEG4, *MJPEG, H264[0]), time_base=MILLISECONDS, rates=FRAME_RATES[1:]),
    Format(suffix=".mpg", encoders=(MPEG1, MPEG2), has_all_times=False, **BROADCAST),
    Format(suffix=".gif", encoders=(("gif", {}),), time_base=Fraction(1, 100), rates=FRAME_RATES[:4:3]),
    Format(suffix=".h264", encoders=H264, **RAW),
    Format(suffix=".hevc", encoders=(("libx265", X265),), **RAW),
)


@dataclass(frozen=True)
class NumberedVideo:
    """A file and the truth about it.

    Attributes:
        numbers: (N,) what the frames show, in the order in which they are shown.
        seconds: (N,) when each is shown, after the first.
        longest_last_seconds: how long the last frame is shown, at most; containers differ.
        tick_seconds: how far a time may be from the truth, for containers round.
        recipe: how it was made, in words.
    """

    path: Path
    numbers: np.ndarray
    seconds: np.ndarray
    longest_last_seconds: float
    tick_seconds: float
    clockwise_degrees: int
    recipe: str

    def shown_at(self, instants: np.ndarray) -> np.ndarray:
        """The numbers on display at instants, (N,)."""
        return self.numbers[np.maximum(np.searchsorted(self.seconds, instants, side="right") - 1, 0)]

    def is_clear(self, instants: np.ndarray) -> np.ndarray:
        """At which instants rounding leaves no doubt which frame is shown."""
        return np.abs(instants[:, None] - self.seconds[None, 1:]).min(axis=1, initial=np.inf) > 2 * self.tick_seconds


def draw_number(number: int) -> np.ndarray:
    """(96, 128, 3) uint8: a number below 1,024 in light and dark cells, the right way up."""
    bits = [number >> bit & 1 for bit in range(NUM_BITS)]
    cells = np.array([1, *bits, 0], bool).reshape(ROWS, COLUMNS)
    picture = np.where(cells, LIGHT, DARK).astype(np.uint8).repeat(CELL_PIXELS, axis=0).repeat(CELL_PIXELS, axis=1)
    return picture[..., None].repeat(3, axis=-1)


def read_number(image: np.ndarray) -> int:
    """The number in a frame that `draw_number` drew, in whatever size; ValueError where it is not upright."""
    height, width = image.shape[:2]
    rows = (np.arange(ROWS) + 0.5) * height / ROWS
    columns = (np.arange(COLUMNS) + 0.5) * width / COLUMNS
    cells = image[rows.astype(int)][:, columns.astype(int)].mean(axis=-1) > (DARK + LIGHT) / 2
    first, *bits, last = cells.ravel().tolist()
    if not first or last:
        raise ValueError("the picture is turned, mirrored or not one that draw_number drew")
    return sum(bit << position for position, bit in enumerate(bits))


def read_numbers(images: Iterable[np.ndarray]) -> list[int]:
    return [read_number(image) for image in images]


def random_video(folder: Path, seed: int) -> NumberedVideo:
    """Writes the video that a seed stands for; every container comes round, whatever the number of videos."""
    rng = np.random.default_rng(seed)
    kind = FORMATS[seed % len(FORMATS)]
    codec, options = kind.encoders[rng.integers(len(kind.encoders))]
    rate = kind.rates[rng.integers(len(kind.rates))]
    timing = kind.timings[rng.integers(len(kind.timings))]
    count = max(kind.min_frames, int(rng.integers(1, 4) if rng.random() < 0.2 else rng.integers(4, 160)))
    rotation = int(rng.choice([0, 90, 180, 270])) if kind.can_turn else 0
    late_seconds = Fraction(int(rng.integers(5_000)), 1_000) if kind.can_start_late and rng.random() < 0.4 else 0
    time_base = kind.time_base or 1 / rate
    times = _random_times(rng, timing, count, frame_seconds=1 / rate)
    path = write_video(
        folder / f"{seed}{kind.suffix}",
        # Stored turned, for a player that follows the display matrix to show it upright.
        [np.rot90(draw_number(number), -rotation // 90) for number in range(count)],
        rate=1 / MILLISECONDS if kind.suffix == ".avi" and kind.time_base else rate,
        codec=codec,
        pixel_format=PIXEL_FORMATS.get(codec, "yuv420p"),
        options=options,
        pts=[round((late_seconds + time) / time_base) for time in times],
        time_base=time_base,
        rotation_degrees=rotation,
    )
    first, behind = 0, count
    if kind.can_be_edited and count > 8 and rng.random() < 0.4:
        first, behind = int(rng.integers(count // 2)), int(rng.integers(count // 2 + 1, count))
        # A little early: the end is rounded, and a frame that begins before it is shown.
        edit_mp4(path, begin=times[first], end=times[behind] - 2 * MILLISECONDS)
    seconds = np.array([float(time - times[first]) for time in times[first:behind]])
    return NumberedVideo(
        path=path,
        numbers=np.arange(first, behind),
        seconds=seconds,
        longest_last_seconds=max([float(1 / rate), *np.diff([float(time) for time in times])]) + 0.011,
        tick_seconds=max(0.001, float(kind.time_base or 0)) if kind.has_all_times else float(2 / rate),
        clockwise_degrees=-rotation % 360,
        recipe=f"{codec} {options}, {timing}, {count} frames at {rate}, turned {rotation}, {late_seconds} s late, "
        f"frames {first} to {behind}",
    )


def _random_times(rng: np.random.Generator, timing: str, count: int, *, frame_seconds: Fraction) -> list[Fraction]:
    steps = [frame_seconds] * (count - 1)
    if timing == "variable":
        steps = [frame_seconds * int(quarters) / 4 for quarters in rng.integers(4, 30, count - 1)]
    elif timing == "gap" and count > 1:
        steps[int(rng.integers(count - 1))] += frame_seconds * int(rng.integers(10, 300))
    return list(itertools.accumulate(steps, initial=Fraction(0)))


def plain_decoding(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that a file shows and their seconds after the first, (N,) each, as PyAV alone gives them."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        images = [np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)) for frame in frames]
        times = np.array([np.nan if frame.time is None else frame.time for frame in frames])
    return np.array(read_numbers(images)), times - times[0]


# ---- MP4 edit lists ----


def edit_mp4(path: Path, *, begin: Fraction, end: Fraction) -> None:
    """Has players show of a film, whose boxes stand behind its data, what lies between two of its times in seconds."""
    data = path.read_bytes()

    def edited(name: bytes, body: bytes) -> bytes:
        if name == b"elst":
            movie_scale, media_scale, shift = _mp4_times(data)
            entry = round((end - begin) * movie_scale), shift + round(begin * media_scale), 1, 0
            return struct.pack(">II", 0, 1) + struct.pack(">IiHH", *entry)
        return body

    path.write_bytes(_map_boxes(data, edited))


def _mp4_times(data: bytes) -> tuple[int, int, int]:
    """Ticks a second of the film and of its first track, and the track's time of the first frame."""
    found: dict[bytes, bytes] = {}
    _map_boxes(data, lambda name, body: found.setdefault(name, body) and body)
    movie_scale = struct.unpack(">I", found[b"mvhd"][12:16])[0]
    media_scale = struct.unpack(">I", found[b"mdhd"][12:16])[0]
    return movie_scale, media_scale, struct.unpack(">i", found[b"elst"][12:16])[0]


def _map_boxes(data: bytes, change: Callable[[bytes, bytes], bytes]) -> bytes:
    """The boxes of an MP4 file, each with its body changed, those inside others as well."""
    result, position = [], 0
    while position < len(data):
        size, name = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + size]
        body = _map_boxes(body, change) if name in (b"moov", b"trak", b"edts", b"mdia") else change(name, body)
        result.append(struct.pack(">I4s", len(body) + 8, name) + body)
        position += size
    return b"".join(result)
