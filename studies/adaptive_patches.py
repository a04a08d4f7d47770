"""What patches that adapt to the clip cost and save: tokens, operations, processor time, accuracy.

    python studies/adaptive_patches.py camera_motion ../shared/photos
    python studies/adaptive_patches.py surveillance ../shared/media/surveillance --epochs 4 --further-epochs 1

Clips of 224 x 224 pixels: camera motion, rendered from photographs with up to three objects before them, or clips of
surveillance cameras. The built-in checkpoint, whose pictures have 64 x 64 pixels, is trained at 224 first. That model
then runs with fewer tokens without being trained for them, by cells of 2 x 2 patches that are merged where least
happens or, to see what that choice is worth, anywhere; and it is trained a little further with each share of tokens,
and as it is. Beside these stand smaller pictures with uniform patches, which have as few tokens, trained a little
further as well.

One model of one seed a row, with the 95 % interval of Wilson over the test clips. What has been computed is kept in
the folder: the same command goes on where it was stopped.
"""

import argparse
import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
from small_training import train_small
from tqdm import tqdm

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification
from fal_hf.hub.model_card import count_parameters_and_gflop
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT
from fal_hf.model.adaptive_patches import measure_complexity
from fal_hf.model.patch_layout import count_places
from fal_hf.training import DataArguments, EvaluationArguments, ModelArguments, write_video
from fal_hf.training import evaluate as evaluate_model
from fal_hf.training.metrics import wilson_interval
from fal_hf.training.result import RESULT_FOLDER
from fal_hf.training.run import MANIFEST_NAME

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path += [str(EXAMPLES / "camera_motion"), str(EXAMPLES / "fine_tuning"), str(EXAMPLES.parent / "benchmarks")]

import surveillance_manifest  # noqa: E402  # of the examples, like those below
from clips import FRAME_INTERVAL_SECONDS, NUM_FRAMES, window_label  # noqa: E402
from machine import describe_machine  # noqa: E402  # of the benchmarks
from rendering import LABELS, draw_shot, load_photo, render_frames, split_photographs  # noqa: E402

SIDE = 224
LEARNING_RATE = 5e-4
COLUMNS = ("patches", "picture", "trained", "tokens", "GFLOP", "processor time", "accuracy", "95 % interval")


@dataclass(frozen=True)
class Case:
    """A row: how pictures become tokens, and whether the model is trained a little further that way."""

    share: float | None = None
    side: int = SIDE
    at_random: bool = False
    is_trained: bool = False

    @property
    def name(self) -> str:
        return "-".join(map(str, (self.share, self.side, "random" if self.at_random else "complex", self.is_trained)))


CASES = (
    Case(),
    *(Case(share) for share in (0.75, 0.5, 0.25)),
    Case(0.5, at_random=True),
    Case(is_trained=True),
    *(Case(share, is_trained=True) for share in (0.5, 0.25)),
    *(Case(side=side, is_trained=True) for side in (160, 112)),
)


def render_clips(folder: Path, photos: list[Path], *, count: int, seed: int) -> None:
    """Writes `folder`/<label>/<number>.mp4, as many of each label, where they are not there yet."""
    rng = np.random.default_rng(seed)
    for index in tqdm(range(count), desc=f"rendering {folder.name}", disable=None):
        photo = load_photo(photos[rng.integers(len(photos))])
        objects = [load_photo(photos[rng.integers(len(photos))]) for _ in range(rng.integers(4))]
        shot = draw_shot(rng, LABELS[index % len(LABELS)], photo, textures=objects)
        start = rng.uniform(0, shot.duration_seconds - (NUM_FRAMES - 1) * FRAME_INTERVAL_SECONDS)
        times = start + FRAME_INTERVAL_SECONDS * np.arange(NUM_FRAMES)
        path = folder / window_label(shot, times) / f"{index:04d}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            frames = render_frames(shot, photo, times, size=(SIDE, SIDE))
            write_video(path, frames, frame_rate=round(1 / FRAME_INTERVAL_SECONDS), preset="veryfast")


def find_camera_motion(args: argparse.Namespace) -> DataArguments:
    """The clips of camera motion, rendered if they are not there yet."""
    photos, folder = split_photographs(args.source), args.folder / "clips"
    render_clips(folder / "train", photos["train"], count=args.train_clips, seed=1)
    render_clips(folder / "test", photos["test"], count=args.test_clips, seed=2)
    return DataArguments(train_dir=str(folder / "train"), test_dir=str(folder / "test"), train_val_split=0.0)


def find_surveillance(args: argparse.Namespace) -> DataArguments:
    """The clips of surveillance cameras, a quarter of them for the test, no film on both sides."""
    manifest = args.folder / "surveillance.csv"
    if not manifest.exists():
        with mock.patch.object(sys, "argv", ["manifest", str(args.source), str(manifest)]):
            surveillance_manifest.main()
    return DataArguments(train_file=str(manifest), train_val_split=0.0, train_test_split=0.25)


# What a set of clips comes from, and how many clips of a video are averaged.
SOURCES = {"camera_motion": find_camera_motion, "surveillance": find_surveillance}
VIEWS = {"camera_motion": 1, "surveillance": 3}


def train(folder: Path, data: DataArguments, case: Case, start: Path, *, epochs: float, num_clips: int) -> float:
    """Trains a model from another, to `folder`/model; returns its accuracy on the test clips."""
    model = ModelArguments(
        model_name_or_path=str(start),
        image_size=case.side,
        frame_interval_seconds=FRAME_INTERVAL_SECONDS,
        adaptive_patches=case.share,
        eval_num_clips=num_clips,
    )
    result, _ = train_small(folder, data, model, epochs=epochs, seed=0, use_cpu=True, learning_rate=LEARNING_RATE)
    return result.figures["test"]["accuracy"]


def score_at_random(pixel_values: torch.Tensor, side: int, *, generator: torch.Generator) -> torch.Tensor:
    """In the place of complexity: numbers that know nothing of the clip."""
    rows, columns = (length // side for length in pixel_values.shape[-2:])
    return torch.rand(len(pixel_values), rows, columns, generator=generator)


def evaluate(folder: Path, data: DataArguments, case: Case, model: Path, *, num_clips: int) -> float:
    """The accuracy on the test clips of a model that was not trained for the case."""
    arguments = EvaluationArguments(
        model_name_or_path=str(model),
        num_clips=[num_clips],
        adaptive_patches=case.share,
        output_dir=str(folder),
        device="cpu",
    )
    at_random = partial(score_at_random, generator=torch.Generator().manual_seed(0))
    score = at_random if case.at_random else measure_complexity
    with mock.patch("fal_hf.model.adaptive_patches.measure_complexity", score):
        return evaluate_model(data=data, evaluation=arguments).results[0]["accuracy"]


def find_accuracy(data: DataArguments, case: Case, args: argparse.Namespace) -> float:
    """The accuracy of a case, computed if it is not there yet; the first case has the model of the others."""
    kept, base = args.folder / case.name / "accuracy.json", args.folder / CASES[0].name
    options = {"num_clips": VIEWS[args.clips]}
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        if case == CASES[0]:
            accuracy = train(base, data, case, DEFAULT_CHECKPOINT, epochs=args.epochs, **options)
        else:
            data = DataArguments(train_file=str(base / MANIFEST_NAME))  # with the split of the first
            model = base / RESULT_FOLDER
            if case.is_trained:
                accuracy = train(kept.parent, data, case, model, epochs=args.further_epochs, **options)
            else:
                accuracy = evaluate(kept.parent, data, case, model, **options)
        kept.write_text(json.dumps(accuracy))
    return json.loads(kept.read_text())


def make_config(case: Case) -> FALConfig:
    """The model of a case, without its labels."""
    layout = {} if case.share is None else {"patch_layout": "adaptive", "patch_share": case.share}
    return FALConfig.from_pretrained(DEFAULT_CHECKPOINT, image_size=case.side, **layout)


def count_tokens(config: FALConfig) -> int:
    """Tokens of a clip beside CLS."""
    frames, rows, columns = config.grid_size
    if config.adaptive_patches is None:
        return frames * rows * columns
    return frames * count_places(rows, columns, config.adaptive_patches.count_split(rows, columns))


@torch.inference_mode()
def compare_times(configs: list[FALConfig], *, rounds: int = 9) -> list[float]:
    """The processor time of a clip in each model as a share of that in the first, the median of runs side by side."""
    models = [FALVideoClassifierForVideoClassification(config).eval() for config in configs]
    clips = [torch.randn(1, NUM_FRAMES, 3, config.image_size, config.image_size) for config in configs]
    seconds = []
    for _ in range(rounds + 1):
        row = []
        for model, clip in zip(models, clips, strict=True):
            start = time.process_time()
            model(clip)
            row.append(time.process_time() - start)
        seconds.append(row)
    return [median(row[index] / row[0] for row in seconds[1:]) for index in range(len(configs))]


def make_row(case: Case, config: FALConfig, time_share: float, accuracy: float, num_test: int) -> str:
    """A row of the table."""
    low, high = wilson_interval(round(accuracy * num_test), num_test)
    choice = "at random" if case.at_random else "by complexity"
    cells = [
        "uniform" if case.share is None else f"{case.share:g} of them, {choice}",
        f"{case.side} x {case.side}",
        "further" if case.is_trained else "",
        count_tokens(config),
        f"{count_parameters_and_gflop(config)[1]:.2f}",
        f"{100 * time_share:.0f} %",
        f"{100 * accuracy:.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", choices=SOURCES, help="which clips")
    parser.add_argument("source", type=Path, help="folder of photographs, or of surveillance clips")
    parser.add_argument("--folder", type=Path, help="where clips and models are kept; runs/adaptive_patches/CLIPS")
    parser.add_argument("--train-clips", type=int, default=600, help="training clips of camera motion")
    parser.add_argument("--test-clips", type=int, default=400, help="test clips of camera motion")
    parser.add_argument("--epochs", type=int, default=2, help="of the model at 224 pixels")
    parser.add_argument("--further-epochs", type=float, default=0.5, help="of the models that are trained further")
    args = parser.parse_args()
    args.folder = args.folder or Path("runs/adaptive_patches") / args.clips
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with redirect_stdout(sys.stderr):  # what Trainer prints; the table alone goes to standard output
        data = SOURCES[args.clips](args)
        accuracies = [find_accuracy(data, case, args) for case in CASES]
    manifest = (args.folder / CASES[0].name / MANIFEST_NAME).read_text().splitlines()
    splits = [json.loads(line)["split"] for line in manifest]
    num_train, num_test = splits.count("train"), splits.count("test")
    print(describe_machine())
    print(f"{num_train} training and {num_test} test clips; {args.epochs} epochs, then {args.further_epochs:g}\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")
    configs = [make_config(case) for case in CASES]
    for row in zip(CASES, configs, compare_times(configs), accuracies, strict=True):
        print(make_row(*row, num_test))


if __name__ == "__main__":
    main()
