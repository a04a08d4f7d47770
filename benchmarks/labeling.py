"""
`fal label`'s machinery beside `pipeline("video-classification")` of transformers with TimeSformer: same files, same
weights, one process.

* Videos a second of 10-second clips and of a long file, 8 frames spread over each; for the long file also 10 clips of
  8 frames, for which the reference decodes its 80 frames at once with `read_video_pyav`. Runs are made in
  turn, and the speed-up is the median over pairs of runs.
* Seconds of the model alone, with torch's own matrix products and with those of oneDNN, beside the reference's; which
  of them labeling takes here. `FAL_LINEARS=torch` or `FAL_LINEARS=onednn` settles that for the whole benchmark.
* Which share of the time decoding, processing and the model take.
* Videos a second with decode workers, their start left out.
* Peak memory of a process that labels windows all over a file, for several lengths.
* What a large collection costs beside decoder and model: files to find, a journal to write and to go on from, labels
  to write; without waiting for the disk at each video, which a real run does.

The allocator of the C library is set as `fal label` sets it, for both sides.

    python benchmarks/labeling.py --hidden-size 384
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from decode import RATE, write_long, write_short
from figures import Figures
from transformers import TimesformerConfig, TimesformerForVideoClassification, VideoMAEImageProcessor, pipeline
from transformers.utils import logging
from transformers.video_utils import read_video_pyav

from fal_hf import VideoLabeler
from fal_hf.bulk.collection import label_collection
from fal_hf.bulk.inputs import find_videos
from fal_hf.bulk.journal import Journal
from fal_hf.labeling.label_files import FORMATS, write_labels
from fal_hf.labeling.memory import keep_freed_memory
from fal_hf.model.onednn import CHOICE, choose_library

NUM_FRAMES = 8
PEAK = """
import resource, sys
from fal_hf import VideoLabeler, Views
labeler = VideoLabeler.from_pretrained(sys.argv[1], views=Views(windows=True, window_seconds=10.0), device="cpu")
print(len(labeler(sys.argv[2]).windows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def write_checkpoint(folder: Path, *, hidden_size: int) -> Path:
    """A TimeSformer of 12 layers with random weights, and the image processor that the pipeline decodes with."""
    config = TimesformerConfig(
        hidden_size=hidden_size,
        num_attention_heads=hidden_size // 64,
        intermediate_size=4 * hidden_size,
        num_labels=400,
    )
    torch.manual_seed(0)
    TimesformerForVideoClassification(config).save_pretrained(folder)
    VideoMAEImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}).save_pretrained(
        folder
    )
    return folder


def write_videos(folder: Path, *, long_seconds: int) -> dict[int, Path]:
    """A 10-second clip, and its packets over and over for longer files, by their seconds."""
    paths = {seconds: folder / f"{seconds}s.mp4" for seconds in sorted({10, 60, long_seconds})}
    write_short(paths[10], seconds=10)
    for seconds, path in paths.items():
        if seconds > 10:
            write_long(paths[10], path, repetitions=seconds // 10)
    return paths


def compare(
    figures: Figures,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    runs: int,
    **circumstances: int,
) -> None:
    """Runs both in turn: the median speed of each and the median ratio of the pairs."""
    seconds = defaultdict(list)
    for _ in range(runs):
        for who, call in (("ours", ours), ("reference", reference)):
            began = time.perf_counter()
            call()
            seconds[who].append(time.perf_counter() - began)
    ratios = [slow / fast for fast, slow in zip(seconds["ours"], seconds["reference"], strict=True)]
    fast, slow = (statistics.median(seconds[who]) for who in ("ours", "reference"))
    figures.add(
        "pipeline",
        **circumstances,
        FAL_videos_per_second=1 / fast,
        pipeline_videos_per_second=1 / slow,
        times_as_fast=statistics.median(ratios),
        least=min(ratios),
        most=max(ratios),
    )


def classify_clips(classify, path: Path, *, seconds: int, num_clips: int) -> torch.Tensor:
    """What the pipeline has no option for: several clips of one file, decoded at once, their scores averaged."""
    total = seconds * RATE
    indices = (2 * np.arange(num_clips * NUM_FRAMES) + 1) * total // (2 * num_clips * NUM_FRAMES)
    frames, _ = read_video_pyav(str(path), lambda metadata, **kwargs: indices)
    clips = [list(frames[clip::num_clips]) for clip in range(num_clips)]
    inputs = classify.image_processor(clips, return_tensors="pt")
    with torch.inference_mode():
        return classify.model(**inputs).logits.softmax(-1).mean(0)


def measure_speed(
    figures: Figures, checkpoint: Path, videos: dict[int, Path], *, long_seconds: int, runs: int, long_runs: int
) -> None:
    classify = pipeline("video-classification", model=str(checkpoint), device="cpu")
    classify.video_processor = None  # it needs torchcodec; without it the pipeline decodes with PyAV
    options = {"batch_size": 10, "device": "cpu"}
    labelers = {clips: VideoLabeler.from_pretrained(checkpoint, num_clips=clips, **options) for clips in (1, 10)}
    difference = weights_difference(classify.model, labelers[1].model)
    figures.add("same_weights", largest_difference_of_logits=difference)
    labelers[1](videos[10]), classify(str(videos[10]))  # not timed: what a first run allocates
    for seconds, count in ((10, runs), (long_seconds, long_runs)):
        path, stride = videos[seconds], seconds * RATE // NUM_FRAMES
        compare(
            figures,
            lambda path=path: labelers[1](path),
            lambda path=path, stride=stride: classify(str(path), frame_sampling_rate=stride),
            runs=count,
            file_seconds=seconds,
            clips=1,
        )
    long = videos[long_seconds]
    compare(
        figures,
        lambda: labelers[10](long),
        lambda: classify_clips(classify, long, seconds=long_seconds, num_clips=10),
        runs=long_runs,
        file_seconds=long_seconds,
        clips=10,
    )


@torch.inference_mode()
def weights_difference(reference, ours) -> float:
    pixel_values = torch.randn(1, NUM_FRAMES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return (reference(pixel_values).logits - ours(pixel_values).logits).abs().max().item()


@torch.inference_mode()
def measure_models(figures: Figures, checkpoint: Path, *, runs: int) -> None:
    """Times one clip in the models alone, in turn."""
    reference = TimesformerForVideoClassification.from_pretrained(checkpoint).eval()
    ours = VideoLabeler.from_pretrained(checkpoint, device="cpu").model
    pixel_values = torch.randn(1, NUM_FRAMES, 3, 224, 224)
    models = {
        "TimeSformer": (reference, nullcontext()),
        "FAL": (ours, patch.dict(os.environ, {CHOICE: "torch"})),
        "FAL, oneDNN": (ours, patch.dict(os.environ, {CHOICE: "onednn"})),
    }
    seconds = defaultdict(list)
    for _ in range(runs + 1):
        for name, (model, context) in models.items():
            began = time.perf_counter()
            with context:
                model(pixel_values)
            seconds[name].append(time.perf_counter() - began)
    for name, taken in seconds.items():
        figures.add("models", model=name, seconds_a_clip=statistics.median(taken[1:]))
    figures.add("products", labeling_takes=choose_library(ours.config, ours.device, ours.dtype))


@contextmanager
def stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - began


def measure_shares(figures: Figures, checkpoint: Path, videos: dict[int, Path], *, long_seconds: int) -> None:
    """Times the three stages of a labeler by what it calls for each."""
    for file_seconds, num_clips in ((10, 1), (long_seconds, 1), (long_seconds, 10)):
        labeler = VideoLabeler.from_pretrained(checkpoint, num_clips=num_clips, device="cpu")
        seconds: dict[str, float] = defaultdict(float)
        make_views, score = labeler.reader._make_views, labeler.score

        def timed_views(*arguments, make_views=make_views, seconds=seconds):
            with stopwatch(seconds, "processing"):
                return make_views(*arguments)

        def timed_score(batch, score=score, seconds=seconds):
            with stopwatch(seconds, "model"):
                return score(batch)

        labeler(videos[file_seconds])
        labeler.reader._make_views, labeler.score = timed_views, timed_score
        with stopwatch(seconds, "all"):
            labeler(videos[file_seconds])
        shares = {f"share_of_{name}": seconds[name] / seconds["all"] for name in ("processing", "model")}
        circumstances = {"file_seconds": file_seconds, "clips": num_clips, "seconds": seconds["all"]}
        figures.add("shares", **circumstances, share_of_decoding=1 - sum(shares.values()), **shares)


def measure_workers(
    figures: Figures, checkpoint: Path, videos: dict[int, Path], folder: Path, *, counts: list[int]
) -> None:
    copies = [shutil.copy(videos[10], folder / f"copy_{number}.mp4") for number in range(24)]
    inputs = find_videos(map(str, copies))
    labeler = VideoLabeler.from_pretrained(checkpoint, num_clips=1, device="cpu")
    for count in counts:
        records = label_collection(labeler, inputs, num_workers=count)
        next(records)
        began = time.perf_counter()
        done = sum(1 for _ in records)
        figures.add("workers", decode_workers=count, videos_of_10_s_per_second=done / (time.perf_counter() - began))


def measure_memory(figures: Figures, checkpoint: Path, videos: dict[int, Path]) -> None:
    for seconds, path in videos.items():
        command = [sys.executable, "-c", PEAK, str(checkpoint), str(path)]
        windows, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        figures.add("memory", file_seconds=seconds, windows_of_10_s=int(windows), peak_MiB=int(peak))


def measure_collection(figures: Figures, folder: Path, *, count: int) -> None:
    """Goes through a run over empty files whose labels are made up."""
    for number in range(count):
        path = folder / str(number // 1000) / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    seconds: dict[str, float] = defaultdict(float)
    with stopwatch(seconds, "find"):
        videos = find_videos([str(folder)])
    labels = [{"label": f"label {index}", "score": 1 / (index + 3)} for index in range(5)]
    record = {"labels": labels, "num_clips": 1, "duration_seconds": 10.0, "frame_rate": 25.0, "schema_version": 1}
    path = folder / "labels.journal"
    with stopwatch(seconds, "note each in the journal"), patch("os.fsync"):
        journal = Journal(path, {})
        for video in videos:
            journal.append(video, {"video": video.name, **record})
    journal.close()
    with stopwatch(seconds, "go on from the journal"):
        journal = Journal(path, {})
        assert all(video in journal for video in videos)
    for suffix in sorted(FORMATS.keys() - {".vtt"}):  # .vtt is a file a video
        with stopwatch(seconds, f"write {suffix}"):
            write_labels(folder / f"labels{suffix}", journal.records(videos))
    for what, taken in seconds.items():
        figures.add("collection", files=count, step=what, seconds=taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hidden-size", type=int, default=192, help="of the TimeSformer: 192, 384 (small), 768 (base)"
    )
    parser.add_argument("--memory-hidden-size", type=int, default=64, help="of the one whose memory is measured")
    parser.add_argument("--runs", type=int, default=5, help="of the short clip (default: 5)")
    parser.add_argument("--long-seconds", type=int, default=600, help="length of the long file (default: 600)")
    parser.add_argument("--long-runs", type=int, default=1, help="of the long file, minutes each (default: 1)")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2, 4])
    parser.add_argument("--inputs", type=int, default=100_000, help="files of a large collection (default: 100000)")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    keep_freed_memory()
    long_seconds = options.long_seconds
    with tempfile.TemporaryDirectory() as name, Figures("labeling") as figures:
        folder = Path(name)
        checkpoint = write_checkpoint(folder / "checkpoint", hidden_size=options.hidden_size)
        videos = write_videos(folder, long_seconds=long_seconds)
        measure_speed(
            figures, checkpoint, videos, long_seconds=long_seconds, runs=options.runs, long_runs=options.long_runs
        )
        measure_models(figures, checkpoint, runs=options.runs)
        measure_shares(figures, checkpoint, videos, long_seconds=long_seconds)
        measure_workers(figures, checkpoint, videos, folder, counts=options.workers)
        measure_memory(figures, write_checkpoint(folder / "small", hidden_size=options.memory_hidden_size), videos)
        measure_collection(figures, folder / "collection", count=options.inputs)


if __name__ == "__main__":
    main()
