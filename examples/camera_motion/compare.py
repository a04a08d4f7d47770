"""Measures camera-motion labels on real files, beside a classical baseline.

    python examples/camera_motion/compare.py --photos ../shared/photos --files runs/camera_motion_files

Renders H.264 files from the photographs that the training never saw, labels each with `VideoLabeler` (what `fal label`
runs), and does the same with feature tracking and a homography, whose thresholds are tuned on files from training
photographs. Files that are there already are not rendered again. `--json` writes the figures to a file, from which
`examples/camera_motion/card.py` makes the card of the checkpoint.
"""

import argparse
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
from rendering import (
    LABELS,
    draw_shot,
    frame_size,
    load_photo,
    render_frames,
    split_photographs,
)
from sklearn.metrics import confusion_matrix
from tqdm import tqdm

from fal_hf import VideoLabeler
from fal_hf.model.video_file import probe, read_frames
from fal_hf.training import write_video
from fal_hf.training.metrics import wilson_interval

SHORT_SIDES = (180, 240, 288)
CRF = (18, 35)
FOREGROUND_PROBABILITY = 0.45
STEP_SECONDS = 0.125
AXES = (("pan_right", "pan_left"), ("tilt_up", "tilt_down"), ("zoom_in", "zoom_out"))
AXES += (("roll_clockwise", "roll_counterclockwise"),)


# Files


def render_files(photos: list[Path], folder: Path, *, per_label: int, seed: int) -> list[dict]:
    """Renders `per_label` files of each label; returns, and keeps in `manifest.jsonl`, what each one is."""
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        return [json.loads(line) for line in manifest.read_text().splitlines()]
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(photos))
    entries = []
    for index in tqdm(range(per_label * len(LABELS)), desc=f"rendering {folder.name}"):
        photo = photos[order[index % len(photos)]]
        path = folder / f"{index:04d}.mp4"
        entries.append({"file": path.name, **render_file(rng, LABELS[index % len(LABELS)], photo, photos, path)})
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return entries


def render_file(rng: np.random.Generator, label: str, photo_path: Path, photos: list[Path], path: Path) -> dict:
    """Renders one file and describes it."""
    photo = load_photo(photo_path)
    num_objects = int(rng.integers(1, 4)) if rng.uniform() < FOREGROUND_PROBABILITY else 0
    textures = [load_photo(photos[rng.integers(len(photos))]) for _ in range(num_objects)]
    shot = draw_shot(rng, label, photo, textures=textures)
    short_side, crf = int(rng.choice(SHORT_SIDES)), int(rng.integers(CRF[0], CRF[1] + 1))
    times = np.arange(shot.num_frames) / shot.frame_rate
    frames = render_frames(shot, photo, times, size=frame_size(shot.aspect_ratio, short_side))
    write_video(path, frames, frame_rate=shot.frame_rate, crf=crf, preset="veryfast")
    return {"label": label, "photo": photo_path.name, "crf": crf, "objects": num_objects, "frames": len(frames)}


# Baseline: feature tracking and a homography


def step_motion(previous: np.ndarray, current: np.ndarray) -> np.ndarray | None:
    """The camera's motion between two gray frames: yaw, pitch, zoom and roll at the edge, in short sides.

    Corners are tracked with pyramidal Lucas-Kanade; the motion is the RANSAC homography's derivative at the center.
    None where too few corners are found.
    """
    corners = cv2.goodFeaturesToTrack(previous, 300, 0.005, 5)
    if corners is None or len(corners) < 8:
        return None
    tracked, found, _ = cv2.calcOpticalFlowPyrLK(previous, current, corners, None, winSize=(21, 21), maxLevel=4)
    kept = found[:, 0] == 1
    if kept.sum() < 8:
        return None
    height, width = previous.shape
    center, short_side = np.array([width, height]) / 2, min(width, height)
    source, target = ((points[kept, 0] - center) / short_side for points in (corners, tracked))
    homography, _ = cv2.findHomography(source, target, cv2.RANSAC, 1.5 / short_side)
    if homography is None:
        return None
    shift = homography[:2, 2] / homography[2, 2]
    jacobian = homography[:2, :2] / homography[2, 2] - np.outer(shift, homography[2, :2] / homography[2, 2])
    scale = np.sqrt(max(np.linalg.det(jacobian), 1e-6))
    turn = np.arctan2(jacobian[1, 0] - jacobian[0, 1], jacobian[0, 0] + jacobian[1, 1])
    return np.array([-shift[0], shift[1], np.log(scale) / 2, -turn / 2])


def motion_statistics(path: Path) -> np.ndarray:
    """The mean velocity on the four axes (short sides a second) and the spread of the velocity over time (5,)."""
    duration = probe(path).duration_seconds
    frames = read_frames(path, seconds=np.arange(0, duration, STEP_SECONDS)).frames
    grays = [cv2.cvtColor(shrunk(np.asarray(frame)), cv2.COLOR_RGB2GRAY) for frame in frames]
    steps = [step_motion(previous, current) for previous, current in itertools.pairwise(grays)]
    steps = np.array([step for step in steps if step is not None]).reshape(-1, 4) / STEP_SECONDS
    if not len(steps):
        return np.zeros(5)
    return np.append(np.clip(steps, -2, 2).mean(0), np.linalg.norm(np.clip(steps, -2, 2).std(0)))


def shrunk(frame: np.ndarray, short_side: int = 180) -> np.ndarray:
    """The frame (H, W, 3) at the given short side."""
    factor = short_side / min(frame.shape[:2])
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def decide(statistics: np.ndarray, *, still: float, shaking: float, steady: float, zoom: float, roll: float) -> str:
    """The baseline's rule: shake, static, or the strongest axis with its sign."""
    velocity, spread = statistics[:4] * (1, 1, zoom, roll), statistics[4]
    axis = int(np.abs(velocity).argmax())
    speed = abs(velocity[axis])
    if spread > shaking and speed < steady * spread:
        return "shake"
    if speed < still:
        return "static"
    return AXES[axis][0 if velocity[axis] > 0 else 1]


def tune(statistics: list[np.ndarray], labels: list[str]) -> dict[str, float]:
    """The thresholds of `decide` with the most correct labels."""
    grid = {
        "still": (0.01, 0.015, 0.02, 0.03, 0.04),
        "shaking": (0.03, 0.05, 0.08, 0.12, 0.2, 0.3),
        "steady": (0.3, 0.5, 0.7, 1.0),
        "zoom": (0.7, 1.0, 1.5, 2.0, 3.0),
        "roll": (0.7, 1.0, 1.5, 2.0, 3.0),
    }
    candidates = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

    def correct(thresholds: dict[str, float]) -> int:
        return sum(decide(row, **thresholds) == label for row, label in zip(statistics, labels, strict=True))

    return max(candidates, key=correct)


def tune_baseline(entries: list[dict], folder: Path) -> dict[str, float]:
    """The thresholds that fit the files of a manifest best."""
    statistics = [motion_statistics(folder / entry["file"]) for entry in tqdm(entries, desc="tuning")]
    return tune(statistics, [entry["label"] for entry in entries])


# Report


def report(name: str, labels: list[str], predictions: list[str]) -> dict:
    """Prints top-1 with its Wilson interval, the accuracy of each label and the confusion matrix; returns figures."""
    matrix = confusion_matrix(labels, predictions, labels=LABELS)
    correct, total = int(np.trace(matrix)), int(matrix.sum())
    low, high = wilson_interval(correct, total)
    by_label = dict(zip(LABELS, (np.diag(matrix) / matrix.sum(1).clip(min=1)).tolist(), strict=True))
    bounds = f"95 % interval {low:.3f} to {high:.3f}"
    print(f"\n{name}: top-1 {correct / total:.3f} ({correct} of {total} files), {bounds}")
    print(f"{'true / predicted':>22}", *(f"{label[:7]:>7}" for label in LABELS), " correct")
    for (label, accuracy), row in zip(by_label.items(), matrix, strict=True):
        print(f"{label:>22}", *(f"{count:7d}" for count in row), f"{accuracy:8.2f}")
    return {"correct": correct, "total": total, "interval": [low, high], "by_label": by_label}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"), help="folder of photographs")
    parser.add_argument("--files", type=Path, default=Path("runs/camera_motion_files"), help="where files are kept")
    parser.add_argument("--model", help="folder or Hub id; the package's checkpoint unless given")
    parser.add_argument("--per-label", type=int, default=30, help="test files of each label")
    parser.add_argument("--num-clips", type=int, help="clips a file; the processor's own number unless given")
    parser.add_argument("--skip-baseline", action="store_true")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()

    photos = split_photographs(args.photos)
    test = render_files(photos["test"], args.files / "test", per_label=args.per_label, seed=7)
    labels = [entry["label"] for entry in test]
    paths = [args.files / "test" / entry["file"] for entry in test]
    model = {} if args.model is None else {"model": args.model}
    labeler = VideoLabeler.from_pretrained(**model, num_clips=args.num_clips)
    figures = {"fal": report("FAL", labels, [labeler(path).labels[0].label for path in tqdm(paths, desc="FAL")])}
    if not args.skip_baseline:
        tuning = render_files(photos["train"], args.files / "tuning", per_label=args.per_label // 2, seed=8)
        thresholds = tune_baseline(tuning, args.files / "tuning")
        print("baseline thresholds, from training photographs:", thresholds)
        statistics = [motion_statistics(path) for path in tqdm(paths, desc="baseline")]
        decisions = [decide(row, **thresholds) for row in statistics]
        figures["baseline"] = report("Feature tracking and homography", labels, decisions)
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
