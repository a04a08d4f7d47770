"""Clips of three words each, and the study on a few of them."""

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import labels_as_tokens


def brightness(frame: np.ndarray) -> np.ndarray:
    return np.where(frame.mean(axis=-1) > 148, 1.0, 0.0)


def tilt(mask: np.ndarray) -> float:
    """The direction of a bar, in [-π/2, π/2), clockwise as pictures have it."""
    rows, columns = np.nonzero(mask)
    across, down = np.cov(np.stack([columns, rows]))
    return float(np.arctan2(2 * across[1], across[0] - down[1]) / 2)


@pytest.mark.parametrize("label", labels_as_tokens.list_labels())
def test_a_clip_shows_what_its_label_says(label):
    movement, direction, speed = label.split()
    for seed in range(5):
        clip = labels_as_tokens.render_clip(np.random.default_rng(seed), *labels_as_tokens.list_labels()[label])
        assert clip.shape == (8, 32, 32, 3)
        masks = [brightness(frame) for frame in clip]
        columns = [(mask.sum(axis=0) @ np.arange(32)) / mask.sum() for mask in (masks[0], masks[-1])]
        areas = [mask.sum() for mask in masks]
        moved, grown = columns[1] - columns[0], areas[-1] - areas[0]
        assert (abs(moved) > 3) == (movement == "slides") and (abs(grown) > 60) == (movement == "scales")
        if movement == "slides":
            assert (moved > 0) == (direction == "right") and (abs(moved) > 9) == (speed == "fast")
        if movement == "turns":
            steps = [(tilt(after) - tilt(before) + np.pi / 2) % np.pi - np.pi / 2 for before, after in pairwise(masks)]
            assert (np.mean(steps) > 0) == (direction == "right") and (abs(np.mean(steps)) > 0.17) == (speed == "fast")
        if movement == "scales":
            assert (grown < 0) == (direction == "down") and (abs(grown) > 160) == (speed == "fast")


def test_the_hierarchy_has_three_levels():
    hierarchy = labels_as_tokens.make_hierarchy()
    assert hierarchy["slides left fast"] == "slides left" and hierarchy["slides left"] == "slides"
    assert len(hierarchy) == 18 and set(hierarchy.values()) - hierarchy.keys() == {"slides", "turns", "scales"}


def test_the_interval_is_student_s():
    # Three values with the deviation 0.1; of two degrees of freedom t is 4.3027.
    assert labels_as_tokens.half_interval([0.8, 0.9, 1.0]) == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)


def test_kept_bytes_are_those_of_activations_each_once():
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2))
    clip = torch.zeros(3, 4)
    # The clip, and what comes of the sigmoid, which the sigmoid and the second Linear keep.
    expected = 4 * (3 * 4 + 3 * 8)
    assert labels_as_tokens.count_kept_bytes(model, lambda: model(clip).sum()) == expected


def run_study(folder: Path, monkeypatch, *options: str) -> None:
    sizes = ["--train-clips", "2", "--test-clips", "1", "--seeds", "2", "--cases", "0", "7", "--use-cpu"]
    monkeypatch.setattr(sys, "argv", ["labels_as_tokens.py", "--folder", str(folder), *sizes, *options])
    labels_as_tokens.main()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "1"], "--seeds: expected at least 2, got 1"),
        (["--epochs", "2"], r"expected the settings of .*'epochs': 1.*got .*'epochs': 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, monkeypatch, capsys, options, message):
    settings = {"train_clips": 2, "test_clips": 1, "epochs": 1}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(SystemExit):
        run_study(tmp_path, monkeypatch, *options)
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_the_study_prints_a_row_for_each_case_and_trains_no_model_twice(tmp_path, monkeypatch, capsys):
    run_study(tmp_path, monkeypatch, "--epochs", "1")
    table = capsys.readouterr().out
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["| none", "| divided"]
    assert all(len(row) == len(labels_as_tokens.COLUMNS) for row in rows)
    models = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")}
    assert len(models) == 4 and "divided-2-64-True-False-1" in models
    monkeypatch.setattr(labels_as_tokens, "train", None)
    run_study(tmp_path, monkeypatch, "--epochs", "1")
    assert capsys.readouterr().out == table
