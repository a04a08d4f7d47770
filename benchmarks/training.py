"""
Training speed: FAL beside transformers' TimeSformer (the same weights) in one Trainer each, and the data loader alone.

For the models it gives clips a second (the median over optimizer steps, taken in turns, the first of each turn left
out), the ratio of the two, and the peak memory of a turn on top of what was there: weights, gradients, optimizer and
activations. For the data loader of the fine-tuning examples it gives clips a second by the number of worker
processes, on 640 x 360 H.264 files of 10 seconds that are written once, or on --clips.

    python benchmarks/training.py --preset fal-small --batch-size 2 --workers 0 1 2
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from decode import write_short
from figures import Figures
from forward import extra_mib, synchronize
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TimesformerConfig,
    TimesformerForVideoClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.model.configuration_fal import PRESETS
from fal_hf.training.clips import (
    AugmentationArguments,
    ClipCollator,
    ClipSampler,
    TrainingClips,
    UnreadableClips,
    probe_clips,
)
from fal_hf.training.data import SINGLE_LABEL, LabeledClip

NUM_LABELS = 400
SHARED_FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size")


class StepTimer(TrainerCallback):
    """Seconds of each optimizer step."""

    def __init__(self):
        self.seconds: list[float] = []
        self.start = 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        synchronize()
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        synchronize()
        self.seconds.append(time.perf_counter() - self.start)


def build_models(preset: str, num_frames: int | None) -> dict[str, PreTrainedModel]:
    """FAL and TimeSformer with the same weights."""
    config = FALConfig.from_preset(preset)
    frames = num_frames or config.num_frames
    sizes = {name: getattr(config, name) for name in SHARED_FIELDS}
    timesformer = TimesformerForVideoClassification(
        TimesformerConfig(**sizes, num_frames=frames, num_labels=NUM_LABELS)
    )
    with tempfile.TemporaryDirectory() as folder:
        timesformer.save_pretrained(folder)
        fal = FALVideoClassifierForVideoClassification.from_pretrained(folder)
    return {"FAL": fal, "TimeSformer": timesformer}


def train(model: PreTrainedModel, args: argparse.Namespace) -> list[float]:
    """Seconds of each step of a short training on random clips, the first left out."""
    frames, side = model.config.num_frames, model.config.image_size
    clip = torch.randn(frames, 3, side, side)
    clips = [{"pixel_values": clip, "labels": index % NUM_LABELS} for index in range(args.batch_size * args.steps)]
    timer = StepTimer()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=args.batch_size,
            max_steps=args.steps,
            bf16=args.bf16,
            use_cpu=args.device == "cpu",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=clips, callbacks=[timer])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return timer.seconds[1:]


def measure_models(figures: Figures, args: argparse.Namespace) -> None:
    models = build_models(args.preset, args.frames)
    seconds = {name: [] for name in models}
    for model in models.values():
        train(model, args)
    peaks = {name: extra_mib(lambda model=model: train(model, args), args.device) for name, model in models.items()}
    for _ in range(args.turns):
        for name, model in models.items():
            seconds[name] += train(model, args)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        figures.add(
            "models",
            model=name,
            preset=args.preset,
            frames=models[name].config.num_frames,
            batch_size=args.batch_size,
            clips_per_second=args.batch_size / median,
            seconds_a_step=median,
            versus_FAL=median / medians["FAL"],
            peak_MiB=peaks[name],
        )


def find_clips(args: argparse.Namespace) -> list[LabeledClip]:
    if args.clips is not None:
        paths = sorted(path for path in args.clips.rglob("*") if path.is_file())
    else:
        args.folder.mkdir(parents=True, exist_ok=True)
        path = args.folder / "short.mp4"
        if not path.exists():
            write_short(path, seconds=10)
        paths = [path] * 32
    return [LabeledClip(path=str(path), labels=("any",)) for path in paths]


def measure_loader(figures: Figures, args: argparse.Namespace) -> None:
    """Clips a second of the training data, augmented (segment, crop, color), as batches: 8 frames, every 8th one."""
    clips = find_clips(args)
    augmentation = AugmentationArguments(horizontal_flip=0.5, colour_ops=1)
    dataset = TrainingClips(
        clips,
        probe_clips(clips),
        FALVideoProcessor(frame_stride=8),
        augmentation=augmentation,
        seed=0,
        label2id={"any": 0},
        problem_type=SINGLE_LABEL,
        unreadable=UnreadableClips(args.folder / "unreadable.jsonl", num_clips=len(clips), max_share=0.0),
    )
    for workers in args.workers:
        sampler = ClipSampler(len(clips), seed=0)
        options = {"num_workers": workers, "persistent_workers": workers > 0}
        loader = DataLoader(dataset, 8, sampler=sampler, collate_fn=ClipCollator(1, augmentation), **options)
        list(loader)  # starts the workers
        start = time.perf_counter()
        num_clips = sum(len(batch["labels"]) for batch in loader)
        figures.add("loader", workers=workers, clips_per_second=num_clips / (time.perf_counter() - start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="fal-base", choices=PRESETS)
    parser.add_argument("--frames", type=int, help="frames of a clip; the preset's unless given")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2, 4])
    parser.add_argument("--clips", type=Path, help="folder of files for the data loader")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fal_training_benchmark")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with Figures("training") as figures:
        measure_models(figures, args)
        if args.workers:
            measure_loader(figures, args)


if __name__ == "__main__":
    main()
