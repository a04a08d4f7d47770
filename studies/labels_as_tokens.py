"""What labels as tokens bring: every kind of label attention on labels of three levels.

    python studies/labels_as_tokens.py --folder runs/labels_as_tokens --use-cpu

A shape slides, turns or changes its size (the movement), one way or the other (the direction), slowly or fast (the
speed): twelve labels such as "slides left fast" below six such as "slides left" below three. Files are rendered once,
then a small FAL of four blocks is trained from nothing with `fal_hf.training` without label tokens, with each kind of
them (the paper's section 4.1 in miniature), with and without the hierarchy and, for divided attention, without gates
(its section 4.2), with other integration layers and with embeddings that are to the width of the model as 384, 768 and
1024 are to 768 (its section 4.4). Accuracies of test clips are means over models of several seeds, with the 95 %
interval of Student's t; a study that was cut off is gone on with in its folder.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from intervals import half_interval
from small_training import train_small
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from tqdm import tqdm

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.hub.model_card import count_parameters_and_gflop
from fal_hf.training import DataArguments, EvaluationArguments, ModelArguments, write_video
from fal_hf.training import evaluate as evaluate_model
from fal_hf.training.result import RESULT_FOLDER

NUM_FRAMES = 8
SIDE = 32
FRAME_RATE = 8
# What the processor takes for zero: else what all patches share would hide what tells places and frames apart.
BACKGROUND = 115
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
COLUMNS = (
    *("label attention", "layer", "embedding", "hierarchy", "gates", "GFLOP", "activations, MB", "processor seconds"),
    *("movement, %", "direction, %", "label, %", "label by seed, %", "share of label tokens by seed, %"),
)


@dataclass(frozen=True)
class Case:
    """One row of the study; `size` is the width of the labels' embeddings."""

    attention: str
    layer: int = 2
    size: int = 64
    has_hierarchy: bool = True
    has_gates: bool = True


CASES = (
    Case("none", has_hierarchy=False),
    Case("label"),
    Case("label", has_hierarchy=False),
    Case("unified"),
    Case("unified", has_hierarchy=False),
    Case("divided"),
    Case("divided", has_hierarchy=False),
    Case("divided", has_gates=False),
    Case("divided", layer=1),
    Case("divided", layer=3),
    Case("divided", size=32),
    Case("divided", size=85),
)


@dataclass(frozen=True)
class Trained:
    """
    A model of a case.

    Attributes:
        folder: Its weights and its configuration.
        seconds: The processor time that its training took.
        accuracies: The shares of test clips whose movement, direction and label are right.
        label_share: That of the label tokens in the scores, the mean of the test clips; None without label tokens.
    """

    folder: Path
    seconds: float
    accuracies: tuple[float, float, float]
    label_share: float | None


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
    """(8, SIDE, SIDE, 3) uint8: a bright bar that lies more than it stands, or a disc, moves on noise."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    brightness, angle = rng.uniform(180, 250), rng.uniform(-math.pi / 4, math.pi / 4)
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
        frames.append(np.where(shape[..., None], brightness, BACKGROUND) + rng.normal(0, 12, (SIDE, SIDE, 3)))
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


def make_model(folder: Path, case: Case, *, epochs: int, seed: int, use_cpu: bool) -> Trained:
    """Trains and evaluates one model, if that is not done yet."""
    output_dir = folder / "-".join(map(str, (*astuple(case), seed)))
    model, record = output_dir / RESULT_FOLDER, output_dir / "record.json"
    if not record.exists():
        seconds = train(folder, case, output_dir, epochs=epochs, seed=seed, use_cpu=use_cpu)
        accuracies, label_share = find_accuracies(model, folder / "test"), find_label_share(model, folder / "test")
        figures = {"seconds": seconds, "accuracies": accuracies, "label_share": label_share}
        record.write_text(json.dumps(figures))
    return Trained(model, **json.loads(record.read_text()))


def train(folder: Path, case: Case, output_dir: Path, *, epochs: int, seed: int, use_cpu: bool) -> float:
    """Trains one model; returns the seconds of processor time that took, which others at work change little."""
    start = time.process_time()
    overrides, tokens = SIZES, {}
    if case.attention != "none":
        overrides = SIZES | {"label_embedding_size": case.size, "label_gates": case.has_gates}
        tokens = {"label_attention": case.attention, "label_integration_layer": case.layer}
    train_small(
        output_dir,
        DataArguments(train_dir=str(folder / "train"), train_val_split=0.0),
        ModelArguments(
            config_name="fal-small",
            config_overrides=",".join(f"{name}={value}" for name, value in overrides.items()),
            num_frames=NUM_FRAMES,
            image_size=SIDE,
            hierarchy=str(folder / "hierarchy.json") if case.has_hierarchy else None,
            **tokens,
        ),
        epochs=epochs,
        seed=seed,
        use_cpu=use_cpu,
    )
    return time.process_time() - start


def count_kept_bytes(model: nn.Module, forward: Callable[[], torch.Tensor]) -> int:
    """Bytes that autograd keeps until the backward pass of `forward`, each storage once, beside the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result  # until here it holds all that is kept, so that no storage takes the address of another
    return sum(kept.values())


def find_accuracies(model: Path, clips: Path) -> list[float]:
    """The shares of clips whose movement, direction and label are right: the first words of the best label."""
    report = evaluate_model(
        data=DataArguments(test_dir=str(clips)),
        evaluation=EvaluationArguments(
            model_name_or_path=str(model), split="test", num_clips=[1], output_dir=str(model.parent / "evaluation")
        ),
    )
    pairs = [(one.labels[0].split(), one.clip.labels[0].split()) for one in report.predictions]
    return [sum(said[:words] == true[:words] for said, true in pairs) / len(pairs) for words in (1, 2, 3)]


@torch.no_grad()
def find_label_share(model: Path, clips: Path) -> float | None:
    """The mean share of the label tokens in the scores of clips; None of a model without them."""
    network = FALVideoClassifierForVideoClassification.from_pretrained(model).eval()
    if network.config.label_attention == "none":
        return None
    processor = FALVideoProcessor.from_pretrained(model)
    batches = [processor(sorted(label.glob("*.mp4")), return_tensors="pt") for label in sorted(clips.iterdir())]
    return float(torch.cat([network(**batch).label_share for batch in batches]).mean())


def make_row(case: Case, models: Sequence[Trained]) -> str:
    """A row of the table: the case, its cost, and the accuracies of its models."""
    model = FALVideoClassifierForVideoClassification.from_pretrained(models[0].folder).train()
    clip, label = torch.zeros(1, NUM_FRAMES, 3, SIDE, SIDE), torch.zeros(1, dtype=torch.long)
    kept = count_kept_bytes(model, lambda: model(clip, labels=label).loss)
    gflop = count_parameters_and_gflop(model.config)[1]
    has_tokens, has_crossings = case.attention != "none", case.attention in ("label", "divided")
    cells = [case.attention, *((case.layer, case.size) if has_tokens else ("", ""))]
    cells += [("no", "yes")[case.has_hierarchy], ("no", "yes")[case.has_gates] if has_crossings else ""]
    cells += [f"{gflop:.4f}", f"{kept / 1e6:.2f}", f"{median(one.seconds for one in models):.0f}"]
    for values in zip(*(one.accuracies for one in models), strict=True):
        cells.append(f"{100 * mean(values):.1f} ± {100 * half_interval(values):.1f}")
    cells.append(", ".join(f"{100 * one.accuracies[-1]:.1f}" for one in models))
    shares = [one.label_share for one in models if one.label_share is not None]
    cells.append(", ".join(f"{100 * share:.0f}" for share in shares))
    return "| " + " | ".join(map(str, cells)) + " |"


def settle(folder: Path, settings: dict[str, int]) -> None:
    """Notes the settings in the study's folder; a ValueError where it has models of others."""
    path = folder / "settings.json"
    if path.exists() and (found := json.loads(path.read_text())) != settings:
        raise ValueError(f"expected the settings of {path}, {found}, got {settings}; give another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/labels_as_tokens"), help="where clips and models are kept"
    )
    parser.add_argument("--train-clips", type=int, default=120, help="training clips of each label")
    parser.add_argument("--test-clips", type=int, default=40, help="test clips of each label")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3, help="models of each case, at least 2")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="numbers of rows")
    parser.add_argument("--use-cpu", action="store_true")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds: expected at least 2, got {args.seeds}: one model has no interval")
    try:
        settle(args.folder, {name: getattr(args, name) for name in ("train_clips", "test_clips", "epochs")})
    except ValueError as error:
        parser.error(str(error))
    make_clips(args.folder / "train", per_class=args.train_clips, seed=1)
    make_clips(args.folder / "test", per_class=args.test_clips, seed=2)
    (args.folder / "hierarchy.json").write_text(json.dumps(make_hierarchy()))
    num_labels = len(list_labels())
    num_train, num_test = args.train_clips * num_labels, args.test_clips * num_labels
    print(f"{num_labels} labels, {num_train} training and {num_test} test clips, {args.epochs} epochs")
    print("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")
    for number in args.cases:
        case = CASES[number]
        with redirect_stdout(sys.stderr):  # what Trainer prints; the table alone goes to standard output
            options = {"epochs": args.epochs, "use_cpu": args.use_cpu}
            models = [make_model(args.folder, case, seed=seed, **options) for seed in range(args.seeds)]
            row = make_row(case, models)
        print(row, flush=True)


if __name__ == "__main__":
    main()
