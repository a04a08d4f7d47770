"""Decoding speed: `fal_hf.model.video_file.read_frames` beside `read_video_pyav` of transformers, on the same files.

Both give the same RGB frames of a 10-second and a 10-minute file (H.264, 640 x 360, 30 frames a second, the encoder's
default keyframe interval), which are written once to --folder. "probe" rows add the measuring of the duration, which
sampling over a whole video needs. Gives the median of --runs, taken in turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from figures import Figures
from transformers.video_utils import read_video_pyav

from fal_hf.model.video_file import probe, read_frames

RATE = 30
WIDTH, HEIGHT = 640, 360


def write_short(path: Path, *, seconds: int) -> None:
    """A picture that drifts under grain, so that frames cost what frames of a camera cost."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (HEIGHT // 8, 2 * WIDTH // 8, 3), dtype=np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)
    grain = rng.integers(0, 12, picture.shape, dtype=np.uint8)
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(seconds * RATE):
            image = picture[:, index : index + WIDTH] // 2 + np.roll(grain, 7 * index, axis=1)[:, :WIDTH]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))


def write_long(short: Path, path: Path, *, repetitions: int) -> None:
    """The short file's packets over and over, so that ten minutes take no minutes to write."""
    with av.open(str(path), mode="w") as target:
        stream, offset = None, 0
        for _ in range(repetitions):
            with av.open(str(short)) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    target.mux(packet)
                offset += video.duration


def prepare(folder: Path, *, long_seconds: int) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    short, long = folder / "10s.mp4", folder / f"{long_seconds}s.mp4"
    if not short.exists():
        write_short(short, seconds=10)
    if not long.exists():
        write_long(short, long, repetitions=long_seconds // 10)
    return {"10 s": short, f"{long_seconds} s": long}


def reference(path: Path, indices: np.ndarray) -> np.ndarray:
    return read_video_pyav(str(path), lambda metadata, **kwargs: indices)[0]


def probed(path: Path, count: int) -> np.ndarray:
    duration_seconds = probe(path).duration_seconds
    return read_frames(path, seconds=(np.arange(count) + 0.5) * duration_seconds / count).frames


def median_seconds(calls: dict[str, Callable[[], np.ndarray]], *, runs: int) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of the processor; in turns, so that other load falls on all of them."""
    seconds = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            began = time.perf_counter(), time.process_time()
            call()
            seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in seconds.items()}


def calls_for(path: Path, frames: str) -> dict[str, Callable[[], np.ndarray]]:
    total = probe(path).num_frames
    if frames == "all":
        return {
            "read_video_pyav": lambda: reference(path, np.arange(total)),
            "read_frames": lambda: read_frames(path).frames,
        }
    count = int(frames)
    indices = (2 * np.arange(count) + 1) * total // (2 * count)
    instants = (indices + 0.5) / RATE
    return {
        "read_video_pyav": lambda: reference(path, indices),
        "read_frames(indices)": lambda: read_frames(path, indices=indices).frames,
        "read_frames(seconds)": lambda: read_frames(path, seconds=instants).frames,
        "probe + read_frames": lambda: probed(path, count),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fal_decode_benchmark")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--long-seconds", type=int, default=600)
    options = parser.parse_args()
    (short_name, short), (long_name, long) = prepare(options.folder, long_seconds=options.long_seconds).items()
    with Figures("decode") as figures:
        for name, path, frames in ((short_name, short, "8"), (short_name, short, "all"), (long_name, long, "8")):
            calls = calls_for(path, frames)
            first, *others = (call() for call in calls.values())
            if not all(np.array_equal(first, other) for other in others):
                raise SystemExit(f"{path}: the readers disagree")
            medians = median_seconds(calls, runs=options.runs)
            base = medians["read_video_pyav"][0]
            for reader, (seconds, cpu) in medians.items():
                circumstances = {"file": name, "frames": frames, "reader": reader}
                times = {"seconds": seconds, "times_as_fast": base / seconds, "processor_seconds": cpu}
                figures.add("readers", **circumstances, **times)


if __name__ == "__main__":
    main()
