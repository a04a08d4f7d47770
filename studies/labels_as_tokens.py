"""What labels as tokens bring: every kind of label attention on labels of three levels.

    python studies/labels_as_tokens.py --folder runs/labels_as_tokens --use-cpu

A shape slides, turns or changes its size (the movement), one way or the other (the direction), slowly or fast (the
speed): twelve labels such as "slides left fast" below six such as "slides left" below three. Files are rendered once,
then a small FAL of four blocks is trained from nothing with `fal_hf.training` without label tokens, with each kind of
them (the paper's section 4.1 in miniature) and, for divided attention, with other integration layers and widths of the
embeddings (its section 4.4). Accuracies are of test clips, pooled over the seeds; the interval takes clips for
independent.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from small_training import train_small
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification
from fal_hf.training import DataArguments, EvaluationArguments, ModelArguments, write_video
from fal_hf.training import evaluate as evaluate_model
from fal_hf.training.metrics import wilson_interval

NUM_FRAMES = 8
SIDE = 32
FRAME_RATE = 8
# What changes a frame, in pixels, radians and pixels: slowly, fast.
SPEEDS = {"slides": (0.8, 2.0), "turns": (0.10, 0.25), "scales": (0.35, 0.9)}
DIRECTIONS = {"slides": ("left", "right"), "turns": ("left", "right"), "scales": ("up", "down")}
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "patch_size": 8,
    "initializer_range": 0.15,
}


@dataclass(frozen=True)
class Case:
    """One model of the study; `size` is the width of the labels' embeddings."""

    attention: str
    layer: int = 2
    size: int = 64
    has_hierarchy: bool = True


CASES = (
    Case("none", has_hierarchy=False),
    Case("label"),
    Case("unified"),
    Case("divided"),
    Case("divided", has_hierarchy=False),
    Case("divided", layer=1),
    Case("divided", layer=3),
    Case("divided", size=32),
    Case("divided", size=128),
)


def list_labels() -> dict[str, tuple[str, int, float]]:
    """The labels, each with its movement, its sign and what changes in a frame."""
    return {
        f"{movement} {direction} {speed}": (movement, sign, change)
        for movement, directions in DIRECTIONS.items()
        for direction, sign in zip(directions, (-1, 1), strict=True)
        for speed, change in zip(("slowly", "fast"), SPEEDS[movement], strict=True)
    }


def make_hierarchy() -> dict[str, str]:
    """Label to parent: "slides left fast" to "slides left", and that to "slides"."""
    words = [label.split() for label in list_labels()]
    return {" ".join(part): " ".join(part[:-1]) for label in words for part in (label, label[:-1])}


def render_clip(rng: np.random.Generator, movement: str, sign: int, change: float) -> np.ndarray:
    """(8, SIDE, SIDE, 3) uint8: a bar or a disc of random place and brightness that moves on noise."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    brightness, angle = rng.uniform(150, 250), rng.uniform(0, math.pi)
    place, frames = rng.uniform(-4, 4, 2), []
    for step in sign * change * (np.arange(NUM_FRAMES) - (NUM_FRAMES - 1) / 2):
        shift = (step, 0.0) if movement == "slides" else (0.0, 0.0)
        across, down = x - place[0] - shift[0], y - place[1] - shift[1]
        if movement == "turns":
            turned = angle + step
            along = across * math.cos(turned) + down * math.sin(turned)
            beside = -across * math.sin(turned) + down * math.cos(turned)
            shape = (np.abs(along) < 11) & (np.abs(beside) < 2.5)
        else:
            shape = np.hypot(across, down) < 7.0 - (step if movement == "scales" else 0.0)
        frames.append(np.where(shape[..., None], brightness, 40) + rng.normal(0, 12, (SIDE, SIDE, 3)))
    return np.clip(frames, 0, 255).astype(np.uint8)


def make_clips(folder: Path, *, per_class: int, seed: int) -> None:
    """Writes `folder`/<label>/<number>.mp4, where they are not there yet."""
    rng = np.random.default_rng(seed)
    for label, motion in list_labels().items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in tqdm(range(per_class), desc=f"rendering {folder.name}/{label}", disable=None):
            frames = render_clip(rng, *motion)
            path = folder / label / f"{index:03d}.mp4"
            if not path.exists():
                write_video(path, frames, frame_rate=FRAME_RATE, preset="veryfast")


def train(folder: Path, case: Case, *, epochs: int, seed: int, use_cpu: bool) -> tuple[Path, float]:
    """Trains one model; returns its folder and the seconds that took."""
    output_dir = folder / f"{case.attention}-{case.layer}-{case.size}-{case.has_hierarchy}-{epochs}-{seed}"
    overrides = SIZES | ({} if case.attention == "none" else {"label_embedding_size": case.size})
    tokens = {"label_attention": case.attention, "label_integration_layer": case.layer}
    result, seconds = train_small(
        output_dir,
        DataArguments(train_dir=str(folder / "train"), train_val_split=0.0),
        ModelArguments(
            config_name="fal-small",
            config_overrides=",".join(f"{name}={value}" for name, value in overrides.items()),
            num_frames=NUM_FRAMES,
            image_size=SIDE,
            hierarchy=str(folder / "hierarchy.json") if case.has_hierarchy else None,
            **({} if case.attention == "none" else tokens),
        ),
        epochs=epochs,
        seed=seed,
        use_cpu=use_cpu,
    )
    return result.model_dir, seconds


def count_gflop(model: Path) -> float:
    """GFLOP of a clip, two for a multiply-add, counted on shapes alone."""
    config = FALConfig.from_pretrained(model)
    with torch.device("meta"):
        shadow = FALVideoClassifierForVideoClassification._from_config(config, attn_implementation="eager").eval()
        clip = torch.empty(1, NUM_FRAMES, 3, SIDE, SIDE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(clip)
    return counter.get_total_flops() / 1e9


def accuracies(model: Path, folder: Path) -> list[float]:
    """The shares of test clips whose movement, direction and speed are right: the first words of the best label."""
    report = evaluate_model(
        data=DataArguments(test_dir=str(folder / "test")),
        evaluation=EvaluationArguments(
            model_name_or_path=str(model), split="test", num_clips=[1], output_dir=str(model.parent / "evaluation")
        ),
    )
    pairs = [(one.labels[0].split(), one.clip.labels[0].split()) for one in report.predictions]
    return [sum(said[:words] == true[:words] for said, true in pairs) / len(pairs) for words in (1, 2, 3)]


def study(case: Case, folder: Path, *, seeds: int, run: Callable) -> str:
    """A row of the table: the case, its cost, and its accuracies over the seeds."""
    trained = [run(folder, case, seed=seed) for seed in range(seeds)]
    found = np.array([accuracies(model, folder) for model, _ in trained])
    num_clips = seeds * len(list((folder / "test").glob("*/*.mp4")))
    movement, direction, speed = found.mean(axis=0).tolist()
    low, high = wilson_interval(round(speed * num_clips), num_clips)
    model = trained[0][0]
    parameters = FALVideoClassifierForVideoClassification.from_pretrained(model).num_parameters()
    seconds = float(np.median([taken for _, taken in trained]))
    cells = [case.attention, case.layer, case.size] if case.attention != "none" else ["none", "", ""]
    cells += ["yes" if case.has_hierarchy else "no", f"{parameters:,}", f"{count_gflop(model):.4f}", f"{seconds:.0f}"]
    cells += [f"{movement:.3f}", f"{direction:.3f}", f"{speed:.3f}", f"{low:.3f} to {high:.3f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/labels_as_tokens"), help="where clips and models are kept"
    )
    parser.add_argument("--train-clips", type=int, default=40, help="training clips of each label")
    parser.add_argument("--test-clips", type=int, default=20, help="test clips of each label")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=1, help="models of each case")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="numbers of rows")
    parser.add_argument("--use-cpu", action="store_true")
    args = parser.parse_args()
    make_clips(args.folder / "train", per_class=args.train_clips, seed=1)
    make_clips(args.folder / "test", per_class=args.test_clips, seed=2)
    (args.folder / "hierarchy.json").write_text(json.dumps(make_hierarchy()))
    num_labels = len(list_labels())
    print(
        f"{num_labels} labels, {args.train_clips * num_labels} training and {args.test_clips * num_labels} test clips"
    )
    print("| label attention | layer | embedding | hierarchy | parameters | GFLOP | seconds of training ", end="")
    print("| movement | direction | speed: the label | 95 % interval |\n" + "| --- " * 11 + "|")

    def run(folder: Path, case: Case, *, seed: int) -> tuple[Path, float]:
        return train(folder, case, epochs=args.epochs, seed=seed, use_cpu=args.use_cpu)

    for number in args.cases:
        with redirect_stdout(sys.stderr):  # what Trainer prints; the table alone goes to standard output
            row = study(CASES[number], args.folder, seeds=args.seeds, run=run)
        print(row, flush=True)


if __name__ == "__main__":
    main()
