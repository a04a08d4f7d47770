"""
What `fal export` writes beside transformers' TimeSformer with the same weights, in float32 and with eager attention.

For each format and precision it prints the median seconds of a clip of 224 x 224 pixels, how many times as long
TimeSformer takes (the median over pairs of runs made in turn, in one process), the files' size, and how long writing
them took. Weights are random: how many labels a runtime keeps is what `fal export` itself says, on videos.

    python benchmarks/runtimes.py --to onnx --precision int8
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from figures import Figures
from forward import timed
from transformers import TimesformerConfig, TimesformerForVideoClassification
from transformers.utils import logging

from fal_hf import FALVideoClassifierForVideoClassification
from fal_hf.export.candidates import list_candidates
from fal_hf.export.writers import WRITERS, GraphWriter, TorchWriter
from fal_hf.runtimes.formats import FORMATS, PRECISIONS, PRECISIONS_OF, Format, Precision
from fal_hf.runtimes.loading import load_runtime
from fal_hf.runtimes.runtime_folder import RuntimeFolder, RuntimeRecord
from fal_hf.runtimes.trial import clip_size

NUM_CALIBRATION_CLIPS = 4


def build_models(options: argparse.Namespace, folder: Path):
    """TimeSformer with eager attention, and FAL with its weights."""
    config = TimesformerConfig(
        num_frames=options.frames,
        num_labels=400,
        num_hidden_layers=options.layers,
        hidden_size=options.hidden_size,
        num_attention_heads=options.hidden_size // 64,
        intermediate_size=4 * options.hidden_size,
    )
    torch.manual_seed(0)
    timesformer = TimesformerForVideoClassification(config).eval()
    timesformer.save_pretrained(folder)
    timesformer.set_attn_implementation("eager")
    return timesformer, FALVideoClassifierForVideoClassification.from_pretrained(folder).eval()


@torch.inference_mode()
def time_pairs(model, timesformer, *, runs: int) -> tuple[float, float]:
    """Median seconds of a clip, and the median of how many times as long TimeSformer takes; a first pair prepares."""
    clip = torch.randn(1, *clip_size(model.config))
    seconds, ratios = [], []
    for _ in range(1 + runs):
        ours, theirs = timed(lambda: model(clip.to(model.dtype))), timed(lambda: timesformer(clip))
        seconds.append(ours)
        ratios.append(theirs / ours)
    return statistics.median(seconds[1:]), statistics.median(ratios[1:])


def write_runtime(
    writer: TorchWriter | GraphWriter, format: Format, precision: Precision, folder: Path
) -> RuntimeRecord:
    """Writes below `folder` the runtime that promises to be the fastest one of a precision."""
    candidate = list_candidates(format, precision, num_layers=writer.model.config.num_hidden_layers)[0]
    record = RuntimeRecord(format=format, precision=precision, float_linears=writer.float_linears(candidate))
    writer.write(candidate, folder / record.name)
    return record


def size_mib(folder: Path) -> float:
    """Of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def measure(figures: Figures, options: argparse.Namespace, folder: Path) -> None:
    timesformer, fal = build_models(options, folder / "timesformer")
    seconds, ratio = time_pairs(fal, timesformer, runs=options.runs)
    about = {"seconds_a_clip": seconds, "TimeSformer_by_it": ratio, "MiB_of_files": None, "seconds_to_write": None}
    figures.add("runtimes", runtime="FAL, not exported", **about)
    fal.config.save_pretrained(folder)
    clips = [torch.randn(1, *clip_size(fal.config)) for _ in range(NUM_CALIBRATION_CLIPS)]
    for format in options.to:
        writer = WRITERS[format](fal, clips)
        for precision in options.precision:
            if precision not in PRECISIONS_OF[format]:
                continue
            began = time.perf_counter()
            record = write_runtime(writer, format, precision, folder)
            written = time.perf_counter() - began
            model = load_runtime(RuntimeFolder(folder, "", (record,)), record)
            seconds, ratio = time_pairs(model, timesformer, runs=options.runs)
            size = size_mib(folder / record.name)
            about = {"seconds_a_clip": seconds, "TimeSformer_by_it": ratio, "MiB_of_files": size}
            figures.add("runtimes", runtime=record.name, **about, seconds_to_write=written)
        del writer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden-size", type=int, default=768)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with Figures("runtimes") as figures, tempfile.TemporaryDirectory() as folder:
        measure(figures, options, Path(folder))


if __name__ == "__main__":
    main()
