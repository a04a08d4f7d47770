"""What sees the order of frames: every attention scheme on clips that nothing but their order tells apart.

    python studies/temporal_order.py --folder runs/temporal_order

A disc goes around a circle in eight frames, and a class is an order of these frames: every clip has all eight, so that
no single frame and no bag of frames says anything of the class. Files are rendered once, then a small FAL is trained
from nothing with `fal_hf.training` for each attention scheme (the paper's table 1 in miniature) and, with
divided attention, for each kind of position embedding (its table 4). One table of video-level accuracies is printed.
"""

import argparse
import math
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from small_training import train_small
from tqdm import tqdm

from fal_hf.model.attention_schemes import ATTENTION_TYPES
from fal_hf.model.configuration_fal import POSITION_EMBEDDING_TYPES
from fal_hf.training import DataArguments, ModelArguments, write_video
from fal_hf.training.metrics import wilson_interval

NUM_FRAMES = 8
SIDE = 32
FRAME_RATE = 8
# Order of the positions around the circle in each class.
ORDERS = {
    "clockwise": (0, 1, 2, 3, 4, 5, 6, 7),
    "counterclockwise": (7, 6, 5, 4, 3, 2, 1, 0),
    "even_then_odd": (0, 2, 4, 6, 1, 3, 5, 7),
    "odd_then_even": (7, 5, 3, 1, 6, 4, 2, 0),
}
SIZES = (
    "hidden_size=64,num_hidden_layers=2,num_attention_heads=4,intermediate_size=128,patch_size=8,"
    "initializer_range=0.15"
)
DIVIDED = "divided_space_time"


def render_clip(rng: np.random.Generator, order: tuple[int, ...]) -> np.ndarray:
    """(8, SIDE, SIDE, 3) uint8: a disc of random size and brightness on noise, at the places of the order."""
    y, x = np.mgrid[:SIDE, :SIDE]
    radius, brightness = rng.uniform(5.5, 7.0), rng.uniform(180, 250)
    frames = []
    for place in order:
        angle = 2 * math.pi * place / NUM_FRAMES + rng.uniform(-0.15, 0.15)
        center = SIDE / 2 + SIDE * 0.32 * np.array([math.cos(angle), math.sin(angle)])
        disc = np.hypot(x - center[0], y - center[1])[..., None] < radius
        frames.append(np.where(disc, brightness, 40) + rng.normal(0, 12, (SIDE, SIDE, 3)))
    return np.clip(frames, 0, 255).astype(np.uint8)


def make_clips(folder: Path, *, per_class: int, seed: int) -> None:
    """Writes `folder`/<class>/<number>.mp4, where they are not there yet."""
    rng = np.random.default_rng(seed)
    for name, order in ORDERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in tqdm(range(per_class), desc=f"rendering {folder.name}/{name}", disable=None):
            frames = render_clip(rng, order)
            path = folder / name / f"{index:03d}.mp4"
            if not path.exists():
                write_video(path, frames, frame_rate=FRAME_RATE, preset="veryfast")


def train(
    folder: Path, *, attention: str, positions: str, epochs: int, seed: int, use_cpu: bool
) -> tuple[float, float]:
    """Trains one model; returns its accuracy on the test clips, and the seconds that took."""
    result, seconds = train_small(
        folder / f"{attention}-{positions}-{epochs}-{seed}",
        DataArguments(train_dir=str(folder / "train"), test_dir=str(folder / "test"), train_val_split=0.0),
        ModelArguments(
            config_name="fal-small",
            config_overrides=f"{SIZES},attention_type={attention},position_embedding_type={positions}",
            num_frames=NUM_FRAMES,
            image_size=SIDE,
        ),
        epochs=epochs,
        seed=seed,
        use_cpu=use_cpu,
    )
    return result.figures["test"]["accuracy"], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/temporal_order"), help="where clips and models are kept"
    )
    parser.add_argument("--train-clips", type=int, default=100, help="training clips of each class")
    parser.add_argument("--test-clips", type=int, default=50, help="test clips of each class")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attention", nargs="+", default=list(ATTENTION_TYPES), choices=ATTENTION_TYPES)
    parser.add_argument(
        "--positions", nargs="+", default=list(POSITION_EMBEDDING_TYPES), choices=POSITION_EMBEDDING_TYPES
    )
    parser.add_argument("--use-cpu", action="store_true")
    args = parser.parse_args()
    make_clips(args.folder / "train", per_class=args.train_clips, seed=1)
    make_clips(args.folder / "test", per_class=args.test_clips, seed=2)
    cases = [(attention, "space_time") for attention in args.attention]
    cases += [(DIVIDED, positions) for positions in args.positions if positions != "space_time"]
    num_test = args.test_clips * len(ORDERS)
    print(f"{len(ORDERS)} classes, {args.train_clips * len(ORDERS)} training and {num_test} test clips, chance 0.250")
    print("attention            positions   accuracy  95 % interval   seconds")
    for attention, positions in cases:
        options = {"epochs": args.epochs, "seed": args.seed, "use_cpu": args.use_cpu}
        with redirect_stdout(sys.stderr):  # what Trainer prints; the table alone goes to standard output
            accuracy, seconds = train(args.folder, attention=attention, positions=positions, **options)
        low, high = wilson_interval(round(accuracy * num_test), num_test)
        print(
            f"{attention:<19}  {positions:<10}  {accuracy:>8.3f}  {low:.3f} to {high:.3f}  {seconds:>7.0f}", flush=True
        )


if __name__ == "__main__":
    main()
