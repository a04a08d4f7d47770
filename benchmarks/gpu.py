"""
FAL on a GPU beside transformers' TimeSformer with the same weights and eager attention.

For each batch, precision, attention implementation and with torch's compiler or without it prints the clips a second,
how many times TimeSformer's that is, the share of the GPU's matrix-multiply rate (measured here in that precision)
and the peak memory on top of weights and clips. Where there is no GPU it says so and measures nothing, unless a device
is named.

    python benchmarks/gpu.py --batches 1 64 --attention sdpa flash_attention_2
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from figures import Figures
from forward import Case, count_gflop, extra_mib, matmul_gflops, timed
from runtimes import build_models
from transformers.utils import logging

SIDE = 224


def build_on(device: str, options: argparse.Namespace, dtype: torch.dtype):
    """TimeSformer with eager attention, and FAL with its weights, on a device."""
    with tempfile.TemporaryDirectory() as folder:
        return [model.to(device, dtype) for model in build_models(options, Path(folder))]


@torch.inference_mode()
def clips_per_second(model, clips: torch.Tensor, *, seconds: float) -> float:
    """The median rate of as many runs as the time allows, after two that prepare."""
    for _ in range(2):
        timed(lambda: model(clips))
    taken, began = [], time.perf_counter()
    while not taken or time.perf_counter() - began < seconds:
        taken.append(timed(lambda: model(clips)))
    return len(clips) / statistics.median(taken)


def measure(figures: Figures, options: argparse.Namespace) -> None:
    for dtype in options.dtypes:
        case = Case(options.frames, "divided_space_time", dtype, "inference")
        kind = getattr(torch, dtype)
        timesformer, fal = build_on(options.device, options, kind)
        peak = matmul_gflops(kind, options.device)
        figures.add("matrix_products", precision=dtype, GFLOP_per_second=peak)
        shape = (options.frames, 3, SIDE, SIDE)
        _, twin = build_on("cpu", options, kind)
        gflop = count_gflop(twin, case, torch.empty(1, *shape, dtype=kind))
        for batch in options.batches:
            clips = torch.randn(batch, *shape, device=options.device, dtype=kind)
            about = {"precision": dtype, "batch": batch}
            reference = None
            try:
                reference = clips_per_second(timesformer, clips, seconds=options.seconds)
                add(figures, {**about, "model": "TimeSformer"}, reference, reference, gflop / peak, timesformer, clips)
            except torch.cuda.OutOfMemoryError:
                figures.leave_out("models", "not enough memory", **about, model="TimeSformer")
            for attention, compiled in itertools.product(options.attention, (False, True)):
                name = f"FAL, {attention}" + (", compiled" if compiled else "")
                try:
                    fal.set_attn_implementation(attention)
                    model = torch.compile(fal) if compiled else fal
                    rate = clips_per_second(model, clips, seconds=options.seconds)
                    add(figures, {**about, "model": name}, rate, reference, gflop / peak, model, clips)
                except (ImportError, ValueError, torch.cuda.OutOfMemoryError) as error:
                    reason = " ".join(str(error).split())[:120]
                    figures.leave_out("models", reason, **about, model=name)
                torch.compiler.reset()


@torch.inference_mode()
def add(figures: Figures, about: dict, rate: float, reference: float | None, seconds_at_peak: float, model, clips):
    """Adds a row: rates in clips a second, and the seconds that a clip would take at the peak."""
    figures.add(
        "models",
        **about,
        clips_per_second=rate,
        by_TimeSformer=None if reference is None else rate / reference,
        share_of_peak=rate * seconds_at_peak,
        extra_MiB=extra_mib(lambda: model(clips), clips.device.type),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="clips at once")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--attention", nargs="+", default=["sdpa", "flash_attention_2"], help="implementations")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden-size", type=int, default=768)
    parser.add_argument("--seconds", type=float, default=3, help="of each row, at least")
    parser.add_argument("--device", help="cuda, or another one to try this without a GPU")
    options = parser.parse_args()
    if options.device is None:
        if not torch.cuda.is_available():
            print("gpu: no GPU here, nothing measured")
            return
        options.device = "cuda"
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with Figures("gpu") as figures:
        measure(figures, options)


if __name__ == "__main__":
    main()
