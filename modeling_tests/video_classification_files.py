"""Small labeled clips on disk, for the tests of fine-tuning."""

from pathlib import Path

import numpy as np
from media_files import write_video

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "fine_tuning"

CLASSES = ("bright", "dark")


def labelled_frames(name: str, *, seed: int, count: int = 12, height: int = 24, width: int = 32) -> np.ndarray:
    """(count, height, width, 3) uint8: noise around a level that tells the class."""
    level = {"bright": 170, "dark": 70}[name]
    rng = np.random.default_rng(seed)
    return np.clip(level + rng.normal(0, 25, (count, height, width, 3)), 0, 255).astype(np.uint8)


def write_class_folders(folder: Path, *, per_class: int) -> Path:
    """`folder`/<class>/<number>.mp4."""
    for first, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            frames = labelled_frames(name, seed=10 * index + first)
            write_video(folder / name / f"{index}.mp4", frames, options={"preset": "ultrafast"})
    return folder
