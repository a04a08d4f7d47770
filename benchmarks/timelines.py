"""
What a timeline of overlapping windows does again, and what it saves not to.

* `--reuse-static`, by the levels that a patch may differ: the share of windows that took over the scores of an earlier
  one, processor seconds of all (one thread; the median of --runs, made in turn) and windows whose best label is not
  the one that they have when all are scored.
* The embedding of patches, which each window does for frames that another one has as well: its share of a forward.

Videos are those of --videos, or a minute of a drawn camera that stands, in whose grainy picture a disc walks by now
and then.

    python benchmarks/timelines.py --videos ../shared/media/surveillance --hop 0.25
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from decode import HEIGHT, RATE, WIDTH
from figures import Figures
from forward import timed
from label_attention import clip_shape
from torch.utils.flop_counter import FlopCounterMode
from transformers.utils import logging

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, VideoLabeler, VideoLabels, Views
from fal_hf.hub.model_card import count_parameters_and_gflop
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT
from fal_hf.model.configuration_fal import PRESETS

# The disc walks by in the last of so many seconds, and takes so long.
WALK_EVERY, WALK_SECONDS = 15, 4


def write_camera(path: Path, *, seconds: int) -> Path:
    """A street that does not change under the grain of a sensor, but for a disc of 40 pixels that crosses it."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 200, (HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8)
    street = blocks.repeat(40, axis=0).repeat(40, axis=1).astype(np.float32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "28"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(seconds * RATE):
            image = street + rng.normal(0, 4, (HEIGHT, WIDTH, 1))
            walked = (index / RATE % WALK_EVERY - (WALK_EVERY - WALK_SECONDS)) / WALK_SECONDS
            if walked > 0:
                image[np.hypot(rows - HEIGHT / 2, columns - walked * WIDTH) < 20] = 230
            frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def label_all(labeler: VideoLabeler, videos: list[Path]) -> tuple[list[VideoLabels], float]:
    """The labels of all videos, and the processor's seconds."""
    began = time.process_time()
    return [labeler(video, top_k=1) for video in videos], time.process_time() - began


def best_labels(results: list[VideoLabels]) -> list[str]:
    """The best label of each window."""
    return [window.labels[0].label for result in results for window in result.windows]


def measure_reuse(figures: Figures, videos: list[Path], options: argparse.Namespace) -> None:
    views = {"windows": True, "window_seconds": options.window, "hop_seconds": options.hop}
    labelers = {
        levels: VideoLabeler.from_pretrained(
            options.model, views=Views(**views, reuse_static=levels or None), device="cpu"
        )
        for levels in (0.0, *options.levels)
    }
    seconds: dict[float, list[float]] = {levels: [] for levels in labelers}
    results = {}
    for _ in range(options.runs):
        for levels, labeler in labelers.items():
            results[levels], taken = label_all(labeler, videos)
            seconds[levels].append(taken)
    expected = best_labels(results[0.0])
    for levels, labeled in results.items():
        num_reused = sum(result.num_reused_windows or 0 for result in labeled)
        labels = best_labels(labeled)
        figures.add(
            "reuse",
            levels=f"{levels:g}" if levels else "off",
            videos=len(videos),
            windows=len(labels),
            reused=num_reused,
            share_reused=num_reused / len(labels),
            processor_seconds=statistics.median(seconds[levels]),
            share_of_seconds=statistics.median(
                mine / all_ for mine, all_ in zip(seconds[levels], seconds[0.0], strict=True)
            ),
            other_labels=sum(one != other for one, other in zip(labels, expected, strict=True)),
        )


@torch.inference_mode()
def measure_embedding(figures: Figures, preset: str, *, runs: int) -> None:
    """The embedding of a clip's patches beside the whole forward."""
    config = FALConfig.from_preset(preset, num_labels=400)
    model = FALVideoClassifierForVideoClassification(config).eval()
    embed, clip = model.fal.embeddings.patch_embeddings, torch.randn(clip_shape(config))
    with FlopCounterMode(display=False) as counter:
        embed(clip)
    seconds = [(timed(lambda: embed(clip)), timed(lambda: model(clip))) for _ in range(1 + runs)][1:]
    figures.add(
        "embedding",
        preset=preset,
        share_of_GFLOP=counter.get_total_flops() / 1e9 / count_parameters_and_gflop(config)[1],
        share_of_seconds=statistics.median(part / whole for part, whole in seconds),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="folder of videos; without it one is drawn")
    parser.add_argument("--seconds", type=int, default=60, help="length of the drawn one")
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT, help="default: camera motion")
    parser.add_argument("--window", type=float, help="seconds; default: a clip's own")
    parser.add_argument("--hop", type=float, default=0.5, help="seconds")
    parser.add_argument("--levels", type=float, nargs="*", default=[2.0, 4.0, 6.0, 8.0, 12.0])
    parser.add_argument("--preset", choices=PRESETS, default="fal-base", help="whose embedding is measured")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    with Figures("timelines") as figures, tempfile.TemporaryDirectory() as folder:
        if options.videos is None:
            videos = [write_camera(Path(folder, "camera.mp4"), seconds=options.seconds)]
        else:
            videos = sorted(path for path in options.videos.rglob("*.mp4"))
        measure_reuse(figures, videos, options)
        measure_embedding(figures, options.preset, runs=options.runs)


if __name__ == "__main__":
    main()
