"""The clips that the studies share."""

import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import data_sets

from fal_hf.model.video_file import read_frames
from fal_hf.training import DataArguments, LabeledClip
from fal_hf.training.data import load_clips


def places(frames: np.ndarray) -> tuple[int, ...]:
    """Where on the circle the disc is in each frame, 0 to 7."""
    y, x = np.mgrid[: data_sets.SIDE, : data_sets.SIDE] - data_sets.SIDE / 2
    bright = frames.mean(axis=-1) > 120
    centers = [np.arctan2(y[mask].mean(), x[mask].mean()) for mask in bright]
    return tuple(round(center / (2 * np.pi) * 8) % 8 for center in centers)


@pytest.mark.parametrize("name", data_sets.ORDERS)
def test_every_class_has_the_same_frames_in_its_own_order(name):
    order = data_sets.ORDERS[name]
    assert sorted(order) == list(range(8))
    for seed in range(5):
        assert places(data_sets.draw_disc(np.random.default_rng(seed), name)) == order


def test_a_camera_pans_as_its_label_says(tmp_path):
    """Where the camera turns right, what it sees moves left."""
    photo = tmp_path / "photo.png"
    ramp = np.tile(np.linspace(40, 220, 400).astype(np.uint8)[:, None], (300, 1, 3))
    Image.fromarray(ramp).save(photo)
    for label, brightens in {"pan_right": True, "pan_left": False}.items():
        frames = data_sets.draw_camera(np.random.default_rng(0), label, [photo])
        assert frames.shape == (8, data_sets.SIDE, data_sets.SIDE, 3)
        means = frames.mean(axis=(1, 2, 3))
        assert (means[-1] > means[0] + 10) if brightens else (means[-1] < means[0] - 10)


def test_clips_are_written_once_and_are_the_same_each_time(tmp_path):
    data = data_sets.make_clips(tmp_path / "one" / "study", "toy", "order")
    again = data_sets.make_clips(tmp_path / "two" / "study", "toy", "order")
    assert data.train_dir != again.train_dir
    files = [sorted(Path(folder).rglob("*.mp4")) for folder in (data.train_dir, again.train_dir)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    before = files[0][0].stat().st_mtime_ns
    data_sets.make_clips(tmp_path / "one" / "study", "toy", "order")
    assert files[0][0].stat().st_mtime_ns == before
    assert read_frames(files[0][0]).frames.shape == (8, data_sets.SIDE, data_sets.SIDE, 3)
    splits = load_clips(data, seed=0)
    assert {name: len(clips) for name, clips in splits.items()} == {"train": 4 * 4, "test": 4 * 2}


def test_data_sets_whose_sources_are_missing_are_left_out(monkeypatch):
    missing = {name: replace(one, source=Path("nowhere")) for name, one in data_sets.DATA_SETS.items()}
    monkeypatch.setattr(data_sets, "DATA_SETS", {**missing, "order": data_sets.DATA_SETS["order"]})
    assert data_sets.available() == ["order"]


def test_shares_of_a_seed_are_nested_and_have_the_classes_in_proportion(tmp_path):
    clips = [LabeledClip(path=f"{label}{i}", labels=(label,)) for label, n in (("a", 40), ("b", 12)) for i in range(n)]
    shares = [data_sets.take_share(clips, percent=percent, seed=3) for percent in (25, 50, 75, 100)]
    for smaller, larger in pairwise(shares):
        assert set(smaller) < set(larger)
    for percent, share in zip((25, 50, 75, 100), shares, strict=True):
        counts = Counter(clip.labels[0] for clip in share)
        assert counts == {"a": 40 * percent // 100, "b": 12 * percent // 100}
    assert shares[-1] == clips, "expected all clips in their order"
    other = data_sets.take_share(clips, percent=50, seed=4)
    assert other != shares[1], "expected another seed to draw other clips"


def test_a_share_leaves_the_test_clips_as_they_are(tmp_path):
    rows = [f"{i}.mp4,{'ab'[i % 2]},film {i // 4}" for i in range(80)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,group", *rows]))
    data = DataArguments(train_file=str(tmp_path / "clips.csv"), train_val_split=0.0, train_test_split=0.25)
    whole = load_clips(data, seed=5)
    for percent, num_clips in ((50, 30), (100, 60)):
        share = data_sets.with_share(data, tmp_path / "case" / "share.jsonl", percent=percent, seed=5)
        splits = load_clips(share, seed=5)
        paths = {name: [clip.path for clip in part] for name, part in splits.items()}
        assert paths["test"] == [clip.path for clip in whole["test"]] and len(paths["train"]) == num_clips
        assert set(paths["train"]) <= {clip.path for clip in whole["train"]}
