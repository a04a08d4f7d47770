"""Clips of three words each, and the study on a few of them."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import labels_as_tokens


def brightness(frame: np.ndarray) -> np.ndarray:
    return np.where(frame.mean(axis=-1) > 100, 1.0, 0.0)


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


@pytest.mark.slow
def test_the_study_prints_a_row_for_each_case(tmp_path, monkeypatch, capsys):
    options = ["--train-clips", "2", "--test-clips", "1", "--epochs", "1", "--cases", "0", "3", "--use-cpu"]
    monkeypatch.setattr(sys, "argv", ["labels_as_tokens.py", "--folder", str(tmp_path), *options])
    labels_as_tokens.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["| none", "| divided"] and all(len(row) == 11 for row in rows)
