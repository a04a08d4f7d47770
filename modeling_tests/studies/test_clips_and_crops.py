"""What the study of clips, crops and scales measures, and what it says of its rows."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import clips_and_crops
import data_sets
import pandas

from fal_hf.training.data import LabeledClip, write_manifest


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of pictures, of which three are in no training."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(303):
        noise = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.resize(noise, (384, 288), interpolation=cv2.INTER_CUBIC))
    monkeypatch.setattr(data_sets, "PHOTOS", folder)
    return folder


def test_rendered_files_are_labeled_with_every_kind_of_views(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(clips_and_crops, "available", lambda: ["camera_motion"])
    clips_and_crops.prepare(tmp_path, "toy")
    folder = clips_and_crops.folder_of(tmp_path, "toy", "camera_motion", 0)
    videos = clips_and_crops.list_videos(folder)
    entries = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    held_out = {path.name for path in data_sets.split_photographs(photos)["test"]}
    assert len(videos) == 10 and len({label for _, label in videos}) == 10
    assert {entry["photo"] for entry in entries} <= held_out
    seen = {}
    original = clips_and_crops.VideoLabeler.score

    def count_views(labeler, batch):
        for pixels in batch:
            seen[case["views"]] = seen.get(case["views"], 0) + pixels.shape[0] * pixels.shape[1]
        return original(labeler, batch)

    monkeypatch.setattr(clips_and_crops.VideoLabeler, "score", count_views)
    cases = [case for case in clips_and_crops.cases("toy") if case["num_clips"] == 3]
    for case in cases:
        figures = clips_and_crops.measure(case, tmp_path, "toy")
        assert figures["accuracy_percent"] % 10 == 0 and figures["seconds_a_video"] > 0
    # Three clips of each of ten videos, and of one of them once more.
    assert seen == {"one crop": 33, "three crops": 99, "five scales": 165}


def test_a_trained_model_labels_the_test_clips_of_its_training(tmp_path):
    (tmp_path / clips_and_crops.RESULT_FOLDER).mkdir()
    clips = {split: [LabeledClip(path=f"/{split}.mp4", labels=("fight",))] for split in ("train", "test")}
    write_manifest(tmp_path / clips_and_crops.MANIFEST_NAME, clips)
    assert clips_and_crops.list_videos(tmp_path) == [("/test.mp4", "fight")]


def test_cases_are_all_numbers_of_clips_with_all_kinds_of_views(monkeypatch):
    monkeypatch.setattr(clips_and_crops, "available", lambda: ["surveillance"])
    cases = clips_and_crops.cases("small")
    assert {case["data"] for case in cases} == {"surveillance"}
    assert {(case["num_clips"], case["views"], case["seed"]) for case in cases} == {
        (count, kind, seed) for count in (1, 3, 5, 10) for kind in clips_and_crops.KINDS for seed in range(3)
    }


def test_claims_follow_from_the_rows():
    accuracies = {1: [60, 61, 59], 3: [80, 82, 81], 5: [81, 80, 82], 10: [90, 91, 92]}
    rows = [
        {
            "data": "camera_motion",
            "num_clips": count,
            "views": kind,
            "seed": seed,
            "accuracy_percent": accuracy + (5 if kind == "five scales" else 0),
            "seconds_a_video": count / 10,
        }
        for kind in clips_and_crops.KINDS
        for count, each in accuracies.items()
        for seed, accuracy in enumerate(each)
    ]
    table = pandas.DataFrame(rows).assign(machine="one", versions="all", date="2026-01-01")
    lines = [line for line in clips_and_crops.tell(table).splitlines() if ": " in line and line.startswith("| ")]
    ends = {tuple(line.strip("| ").split(" | ")[:2]): line.rpartition(": ")[2] for line in lines}
    assert ends["10 clips, one crop", "1 clip, one crop"] == "holds |"
    assert ends["5 clips, one crop", "3 clips, one crop"] == "does not show |"
    assert ends["10 clips, one crop", "3 clips, one crop"] == "holds |"
    assert ends["10 clips, three crops", "10 clips, one crop"] == "does not show |"
    assert ends["1 clip, five scales", "1 clip, one crop"] == "holds |"
    assert "| one crop | 10 | 91.0 ± 2.5 | 1.000 |" in clips_and_crops.tell(table)
