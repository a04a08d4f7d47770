"""
How the cost of a clip grows: with frames and pixels (divided beside joint attention), with the size of a batch, and
with the number of streams that are labeled at once.

* Seconds, memory on top of weights and clip, and GFLOP (two for a multiply-add) of a clip by frames and side.
* Clips a second of batches, in the model alone.
* Clips a second in all of several processes, each of which labels a file of its own over and over, as so many runs of
  `fal label` at once do.

Clips and batches that would take longer than --max-seconds, at the rate of the one before, or about more memory than
--max-gib are left out.

    python benchmarks/growth.py --preset fal-small --frames 8 16 --sides 224 --batches 1 8 --streams 1 2
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from decode import write_short
from figures import Figures
from forward import extra_mib, matmul_gflops, timed
from label_attention import clip_shape
from transformers.utils import logging

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.hub.model_card import count_parameters_and_gflop
from fal_hf.model.configuration_fal import PRESETS

ATTENTION = ("divided_space_time", "joint_space_time")
# Numbers that a block keeps at once for each token, in widths of the model: a residual, an MLP four times as wide
# before and after its activation, queries, keys, values and copies of some of them.
WIDTHS_A_TOKEN = 24
# Waits, when it is ready, for a line; ends when its clips are labeled.
STREAM = """
import sys
from transformers.utils import logging
from fal_hf import VideoLabeler
logging.disable_progress_bar()
checkpoint, video, count, device = sys.argv[1:]
labeler = VideoLabeler.from_pretrained(checkpoint, num_clips=1, device=device)
labeler(video)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(count)):
    labeler(video)
"""


def needed_gib(config: FALConfig) -> float:
    """About what the forward of a clip takes on top of the weights."""
    frames, rows, columns = config.grid_size
    return frames * rows * columns * config.hidden_size * WIDTHS_A_TOKEN * 4 / 2**30


@torch.inference_mode()
def time_batch(model: FALVideoClassifierForVideoClassification, batch: torch.Tensor, *, runs: int) -> float:
    """Median seconds of a batch, after a run that prepares."""
    return statistics.median([timed(lambda: model(batch)) for _ in range(1 + runs)][1:])


def measure_sizes(figures: Figures, options: argparse.Namespace) -> None:
    """Frames x side x attention. A case's rate is a guess at that of the next larger one."""
    peak = matmul_gflops(torch.float32, "cpu")
    for attention in ATTENTION:
        rate = peak
        for side, frames in itertools.product(options.sides, options.frames):
            case = {"attention": attention, "frames": frames, "side": side}
            config = FALConfig.from_preset(
                options.preset, num_frames=frames, image_size=side, attention_type=attention, num_labels=400
            )
            gflop = count_parameters_and_gflop(config)[1]
            if needed_gib(config) > options.max_gib:
                figures.leave_out("sizes", f"more than {options.max_gib:g} GiB", **case)
                continue
            if gflop / rate > options.max_seconds:
                figures.leave_out("sizes", f"about {gflop / rate:,.0f} s, {gflop:,.0f} GFLOP", **case)
                continue
            model = FALVideoClassifierForVideoClassification(config).eval()
            clip = torch.randn(clip_shape(config))
            with torch.inference_mode():
                extra = extra_mib(lambda model=model, clip=clip: model(clip), "cpu")
            seconds = time_batch(model, clip, runs=options.runs)
            rate = gflop / seconds
            figures.add("sizes", **case, seconds=seconds, extra_MiB=extra, GFLOP=gflop, GFLOP_per_second=rate)


def measure_batches(figures: Figures, options: argparse.Namespace) -> None:
    config = FALConfig.from_preset(options.preset, num_labels=400)
    model = FALVideoClassifierForVideoClassification(config).eval()
    seconds_a_clip = 0.0
    for size in options.batches:
        if size * needed_gib(config) > options.max_gib:
            figures.leave_out("batches", f"more than {options.max_gib:g} GiB", clips_in_a_batch=size)
            continue
        if size * seconds_a_clip > options.max_seconds:
            figures.leave_out("batches", f"about {size * seconds_a_clip:,.0f} s", clips_in_a_batch=size)
            continue
        seconds = time_batch(model, torch.randn(size, *clip_shape(config)[1:]), runs=options.runs)
        seconds_a_clip = seconds / size
        figures.add("batches", clips_in_a_batch=size, seconds=seconds, clips_per_second=size / seconds)


def measure_streams(figures: Figures, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        command = make_stream(Path(name), FALConfig.from_preset(options.preset), clips=options.stream_clips)
        for count in options.streams:
            seconds = time_streams(command, count)
            rate = count * options.stream_clips / seconds
            figures.add("streams", streams=count, seconds=seconds, clips_per_second_in_all=rate)


def make_stream(folder: Path, config: FALConfig, *, clips: int, device: str = "cpu") -> list[str]:
    """Writes a model and a file to label, and returns the command of a stream that labels so many clips of it."""
    checkpoint, video = folder / "checkpoint", folder / "10s.mp4"
    FALVideoClassifierForVideoClassification(config).save_pretrained(checkpoint)
    side = config.image_size
    processor = FALVideoProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor.save_pretrained(checkpoint)
    write_short(video, seconds=10)
    return [sys.executable, "-c", STREAM, str(checkpoint), str(video), str(clips), device]


def time_streams(command: list[str], count: int) -> float:
    """Seconds from when all processes are ready until all of them are done."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    streams = [subprocess.Popen(command, **pipes) for _ in range(count)]
    for stream in streams:
        if stream.stdout.readline() != "ready\n":
            raise SystemExit(f"a stream ended with status {stream.wait()}")
    began = time.perf_counter()
    for stream in streams:
        stream.stdin.write("go\n")
        stream.stdin.flush()
    statuses = [stream.wait() for stream in streams]
    seconds = time.perf_counter() - began
    if any(statuses):
        raise SystemExit("a stream failed")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="fal-base")
    parser.add_argument("--frames", type=int, nargs="*", default=[8, 16, 32, 64, 96])
    parser.add_argument("--sides", type=int, nargs="*", default=[224, 448, 896], help="pixels of a frame's edge")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64], help="clips at once")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 2, 4, 8], help="processes at once")
    parser.add_argument("--stream-clips", type=int, default=8, help="that each process labels")
    parser.add_argument("--runs", type=int, default=3, help="of each size and batch")
    parser.add_argument("--max-seconds", type=float, default=60, help="leave out larger clips")
    parser.add_argument("--max-gib", type=float, default=8, help="leave out larger clips")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with Figures("growth") as figures:
        measure_sizes(figures, options)
        measure_batches(figures, options)
        measure_streams(figures, options)


if __name__ == "__main__":
    main()
