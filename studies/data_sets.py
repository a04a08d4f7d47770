"""The clips that the studies train and test on: files that are made or found once, and how a model samples them.

* `order`: a disc goes around a circle in eight frames, and a class is an order of these frames: no single frame and no
  bag of frames says anything of the class.
* `camera_motion`: a camera pans or zooms over photographs, or stands still.
* `surveillance`: clips of surveillance cameras, fights and no fights; no film is in both training and test.

Photographs and surveillance clips are looked for in ../shared, or where FAL_PHOTOS and FAL_SURVEILLANCE say. A study
leaves out what is not there, and says so.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from study import ROOT, Setting
from tqdm import tqdm

from fal_hf.training import DataArguments, LabeledClip, write_video
from fal_hf.training.data import list_labels, load_clips, write_manifest

sys.path += [str(ROOT / "examples" / "camera_motion"), str(ROOT / "examples" / "fine_tuning")]

import surveillance_manifest  # of the examples, like those below
from clips import FRAME_INTERVAL_SECONDS, NUM_FRAMES
from compare import render_files
from rendering import draw_shot, edge_speed, load_photo, render_frames, split_photographs, without_distractions

PHOTOS = Path(os.environ.get("FAL_PHOTOS", "../shared/photos"))
SURVEILLANCE = Path(os.environ.get("FAL_SURVEILLANCE", "../shared/media/surveillance"))
SIDE = 32
FRAME_RATE = round(1 / FRAME_INTERVAL_SECONDS)
# Order of the positions around the circle in each class.
ORDERS = {
    "clockwise": (0, 1, 2, 3, 4, 5, 6, 7),
    "counterclockwise": (7, 6, 5, 4, 3, 2, 1, 0),
    "even_then_odd": (0, 2, 4, 6, 1, 3, 5, 7),
    "odd_then_even": (7, 5, 3, 1, 6, 4, 2, 0),
}
LEAST_MOTION = 0.2  # of the frame, at its edge, during a clip
MOTIONS = ("static", "pan_left", "pan_right", "zoom_in", "zoom_out")
# Of x264: other presets weigh the blocks of pictures this small by memory that was not written (its macroblock tree),
# and files are not the same each time.
PRESET = "ultrafast"
# Training and test clips of each class.
CLIPS = {"toy": (4, 2), "small": (100, 50), "full": (400, 200)}


Draw = Callable[[np.random.Generator, str], np.ndarray]


def draw_disc(rng: np.random.Generator, label: str) -> np.ndarray:
    """(8, SIDE, SIDE, 3) uint8: a disc of random size and brightness on noise, at the places of the order."""
    y, x = np.mgrid[:SIDE, :SIDE]
    radius, brightness = rng.uniform(5.5, 7.0), rng.uniform(180, 250)
    frames = []
    for place in ORDERS[label]:
        angle = 2 * np.pi * place / NUM_FRAMES + rng.uniform(-0.15, 0.15)
        center = SIDE / 2 + SIDE * 0.32 * np.array([np.cos(angle), np.sin(angle)])
        disc = np.hypot(x - center[0], y - center[1])[..., None] < radius
        frames.append(np.where(disc, brightness, 40) + rng.normal(0, 12, (SIDE, SIDE, 3)))
    return np.clip(frames, 0, 255).astype(np.uint8)


def draw_camera(rng: np.random.Generator, label: str, photos: Sequence[Path]) -> np.ndarray:
    """(8, SIDE, SIDE, 3) uint8: what a camera sees of a photograph, an eighth of a second between frames."""
    photo = load_photo(photos[rng.integers(len(photos))])
    while True:
        shot = without_distractions(draw_shot(rng, label, photo))
        last = shot.duration_seconds - (NUM_FRAMES - 1) * FRAME_INTERVAL_SECONDS
        if last <= 0:
            continue
        times = rng.uniform(0, last) + FRAME_INTERVAL_SECONDS * np.arange(NUM_FRAMES)
        start, end = shot.path.progress(times[[0, -1]])
        if label == "static" or edge_speed(shot.path.rates) * (end - start) >= LEAST_MOTION:
            return render_frames(shot, photo, times, size=(SIDE, SIDE))


def write_clips(
    folder: Path,
    draw: Draw,
    labels: Sequence[str],
    *,
    count: int,
    seed: int,
    frame_rate: int | Fraction = FRAME_RATE,
) -> None:
    """Writes `folder`/<label>/<number>.mp4, `count` of each label, where they are not there yet."""
    rng = np.random.default_rng(seed)
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in tqdm(range(count), desc=f"rendering {folder.name}/{label}", disable=None):
            frames, path = draw(rng, label), folder / label / f"{index:04d}.mp4"
            if not path.exists():
                write_video(path, frames, frame_rate=frame_rate, preset=PRESET)


def make_order(folder: Path, setting: Setting) -> DataArguments:
    for seed, (part, count) in enumerate(zip(("train", "test"), CLIPS[setting], strict=True)):
        write_clips(folder / part, draw_disc, tuple(ORDERS), count=count, seed=1 + seed)
    return two_folders(folder)


def make_camera_motion(folder: Path, setting: Setting) -> DataArguments:
    photos = split_photographs(PHOTOS)
    for seed, (part, count) in enumerate(zip(("train", "test"), CLIPS[setting], strict=True)):
        draw = partial(draw_camera, photos=photos[part])
        write_clips(folder / part, draw, MOTIONS, count=count, seed=1 + seed)
    return two_folders(folder)


def make_camera_files(folder: Path, *, per_label: int, seed: int) -> None:
    """Writes `folder`/manifest.jsonl and H.264 files of all motions that the package's checkpoint names, rendered from
    photographs that it never saw, where they are not there yet."""
    render_files(split_photographs(PHOTOS)["test"], folder, per_label=per_label, seed=seed)


def two_folders(folder: Path) -> DataArguments:
    """Training and test clips that stand in folders of these names."""
    return DataArguments(train_dir=str(folder / "train"), test_dir=str(folder / "test"), train_val_split=0.0)


def make_surveillance(folder: Path, setting: Setting) -> DataArguments:
    """A quarter of the clips for the test."""
    manifest = folder / "clips.csv"
    if not manifest.exists():
        with mock.patch.object(sys, "argv", ["manifest", str(SURVEILLANCE), str(manifest)]):
            surveillance_manifest.main()
    return DataArguments(train_file=str(manifest), train_val_split=0.0, train_test_split=0.25)


@dataclass(frozen=True)
class DataSet:
    """
    Clips with labels.

    Args:
        title: What they are called in the documents.
        make: A folder and the setting to the clips, which are made where they are not there yet.
        source: The folder that they come from, if they come from one.
        side: Pixels of a frame's side, as models see it.
        num_views: Clips of a test video whose scores are averaged.
        chance: How often always naming the most frequent class is right.
    """

    title: str
    make: Callable[[Path, Setting], DataArguments]
    source: Path | None = None
    side: int = SIDE
    num_views: int = 1
    chance: float = 0.0

    @property
    def is_there(self) -> bool:
        return self.source is None or self.source.is_dir()


DATA_SETS = {
    "order": DataSet("order of frames", make_order, chance=1 / len(ORDERS)),
    "camera_motion": DataSet("camera motion", make_camera_motion, PHOTOS, chance=1 / len(MOTIONS)),
    "surveillance": DataSet("surveillance", make_surveillance, SURVEILLANCE, side=64, num_views=3, chance=0.519),
}


def available() -> list[str]:
    """The names of the data sets whose sources are there."""
    return [name for name, data_set in DATA_SETS.items() if data_set.is_there]


def make_clips(folder: Path, setting: Setting, name: str) -> DataArguments:
    """The clips of a data set; studies share them."""
    folder = folder.parent / "clips" / f"{name}-{setting}"
    folder.mkdir(parents=True, exist_ok=True)
    return DATA_SETS[name].make(folder, setting)


def with_share(data: DataArguments, manifest: Path, *, percent: float, seed: int) -> DataArguments:
    """The clips with a share of those for training; written to a manifest."""
    splits = load_clips(data, seed=seed)
    write_manifest(manifest, {**splits, "train": take_share(splits["train"], percent=percent, seed=seed)})
    return DataArguments(train_file=str(manifest), train_val_split=0.0)


def take_share(clips: Sequence[LabeledClip], *, percent: float, seed: int) -> list[LabeledClip]:
    """
    Some of the clips, in their order: the same share of each class, drawn at random. Of one seed, a smaller share is
    part of a larger one.
    """
    rng = np.random.default_rng(seed)
    kept: set[int] = set()
    for label in list_labels(clips):
        drawn = rng.permutation([index for index, clip in enumerate(clips) if clip.labels == (label,)])
        kept.update(drawn[: round(percent / 100 * len(drawn))].tolist())
    return [clips[index] for index in sorted(kept)]
