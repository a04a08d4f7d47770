"""
FAL beside transformers' TimeSformer (the same weights) and VideoMAE, in one process.

For each number of frames, attention scheme, precision and mode (inference, one training step) it prints the median
seconds of a batch, how many times FAL's time the model takes (the median over runs made in turn), the memory on top
of weights and input, the GFLOP (two for a multiply-add) and the share of the machine's matrix-multiply rate.

    python benchmarks/forward.py --frames 8 --attention divided_space_time --dtypes float32
"""

import argparse
import ctypes
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from figures import Figures
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    PreTrainedModel,
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
)
from transformers.utils import logging

from fal_hf import FALVideoClassifierForVideoClassification

NUM_LABELS = 400
IMAGE_SIZE = 224


@dataclass(frozen=True)
class Case:
    """One row's circumstances."""

    frames: int
    attention: str
    dtype: str
    mode: str


@dataclass
class Measurement:
    """One model's figures in one case; `seconds` has one entry a run."""

    seconds: list[float]
    extra_mib: float | None
    gflop: float


def build_models(case: Case, device: str) -> dict[str, PreTrainedModel]:
    """FAL, TimeSformer with the same weights, and VideoMAE, all of base size."""
    config = TimesformerConfig(num_frames=case.frames, attention_type=case.attention, num_labels=NUM_LABELS)
    timesformer = TimesformerForVideoClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        timesformer.save_pretrained(folder)
        fal = FALVideoClassifierForVideoClassification.from_pretrained(folder)
    videomae = VideoMAEForVideoClassification(VideoMAEConfig(num_frames=case.frames, num_labels=NUM_LABELS))
    models = {"FAL": fal, "TimeSformer": timesformer, "VideoMAE": videomae}
    return {name: model.to(device, getattr(torch, case.dtype)) for name, model in models.items()}


def make_step(model: PreTrainedModel, case: Case, pixel_values: torch.Tensor) -> Callable[[], None]:
    """A function that runs the model once on the batch: forward, or forward, backward and an SGD step."""
    if case.mode == "inference":
        model.eval()

        @torch.inference_mode()
        def infer():
            model(pixel_values)

        return infer

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    labels = torch.zeros(len(pixel_values), dtype=torch.long, device=pixel_values.device)

    def train():
        model(pixel_values, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(step: Callable[[], None]) -> float:
    """Seconds of one call."""
    synchronize()
    start = time.perf_counter()
    step()
    synchronize()
    return time.perf_counter() - start


def extra_mib(step: Callable[[], object], device: str) -> float | None:
    """Peak memory of a call on top of what was there, in MiB; on the CPU from Linux' counters, None elsewhere."""
    before = held_mib(device)
    if before is None:
        return None
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() / 2**20 - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    except OSError:
        return None
    step()
    return resident_kib("VmHWM") / 1024 - before


def held_mib(device: str) -> float | None:
    """Memory that is in use, in MiB: of tensors on the GPU, of this process on the CPU, where Linux counts it."""
    gc.collect()
    if device == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # gives freed memory back, so that it counts when it is used again
        return resident_kib("VmRSS") / 1024
    except OSError:
        return None


def resident_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def count_gflop(model: PreTrainedModel, case: Case, pixel_values: torch.Tensor) -> float:
    """GFLOP of one step, counted on shapes alone."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")  # its matrix products are what the counter knows on every device
    shadow = model.to("meta")
    with FlopCounterMode(display=False) as counter:
        make_step(shadow, case, pixel_values.to("meta"))()
    model.set_attn_implementation(implementation)
    return counter.get_total_flops() / 1e9


def matmul_gflops(dtype: torch.dtype, device: str) -> float:
    """GFLOP a second of matrix products: the best of many, in sizes as the models have them and larger."""
    best = 0.0
    for rows, inner, columns in ((1568, 768, 3072), (2048, 2048, 2048), (4096, 4096, 4096)):
        left, right = (torch.randn(shape, device=device).to(dtype) for shape in ((rows, inner), (inner, columns)))
        seconds = min(timed(lambda left=left, right=right: left @ right) for _ in range(10))
        best = max(best, 2 * rows * inner * columns / seconds / 1e9)
    return best


def needed_gib(case: Case, batch_size: int) -> float:
    """What the eager attention maps of TimeSformer take, the largest single cost: they decide whether a case fits."""
    tokens = (IMAGE_SIZE // 16) ** 2 * (case.frames if case.attention == "joint_space_time" else 1)
    maps = 12 * tokens**2 * (1 if case.attention == "joint_space_time" else case.frames)
    copies = 3 * 12 if case.mode == "training" else 3
    return batch_size * maps * copies * (2 if case.dtype == "bfloat16" else 4) / 2**30


def measure(case: Case, *, batch_size: int, repeats: int, device: str) -> dict[str, Measurement]:
    """All models on one case, run in turn so that a machine's drift meets all of them."""
    torch.manual_seed(0)
    models = build_models(case, device)
    shape = (batch_size, case.frames, 3, IMAGE_SIZE, IMAGE_SIZE)
    pixel_values = torch.randn(shape, device=device, dtype=getattr(torch, case.dtype))
    steps = {name: make_step(model, case, pixel_values) for name, model in models.items()}
    for step in steps.values():
        step()
    extra = {name: extra_mib(step, device) for name, step in steps.items()}
    seconds = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            seconds[name].append(timed(step))
    del steps
    return {
        name: Measurement(seconds[name], extra[name], count_gflop(model, case, pixel_values))
        for name, model in models.items()
    }


def add_rows(figures: Figures, case: Case, measurements: dict[str, Measurement], peak_gflops: float) -> None:
    ours = measurements["FAL"]
    for name, model in measurements.items():
        median = statistics.median(model.seconds)
        ratio = statistics.median(theirs / mine for theirs, mine in zip(model.seconds, ours.seconds, strict=True))
        figures.add(
            "models",
            **asdict(case),
            model=name,
            seconds=median,
            versus_FAL=ratio,
            extra_MiB=model.extra_mib,
            GFLOP=model.gflop,
            share_of_peak=model.gflop / median / peak_gflops,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--attention", nargs="+", default=["divided_space_time", "joint_space_time"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", default=["inference", "training"], choices=["inference", "training"])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--max-gib", type=float, default=8, help="leave out cases whose attention maps take more")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    with Figures("forward") as figures:
        peak_gflops = {dtype: matmul_gflops(getattr(torch, dtype), args.device) for dtype in args.dtypes}
        for dtype, rate in peak_gflops.items():
            figures.add("matrix_products", dtype=dtype, GFLOP_per_second=rate)
        for case in itertools.starmap(Case, itertools.product(args.frames, args.attention, args.dtypes, args.modes)):
            if needed_gib(case, args.batch_size) > args.max_gib:
                figures.leave_out("models", f"attention maps above {args.max_gib:g} GiB", **asdict(case))
                continue
            measurements = measure(case, batch_size=args.batch_size, repeats=args.repeats, device=args.device)
            add_rows(figures, case, measurements, peak_gflops[case.dtype])


if __name__ == "__main__":
    main()
