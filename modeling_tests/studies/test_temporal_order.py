"""The clips that only the order of their frames tells apart, and the study on a few of them."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import temporal_order


def places(frames: np.ndarray) -> tuple[int, ...]:
    """Where on the circle the disc is in each frame, 0 to 7."""
    y, x = np.mgrid[: temporal_order.SIDE, : temporal_order.SIDE] - temporal_order.SIDE / 2
    bright = frames.mean(axis=-1) > 120
    centers = [np.arctan2(y[mask].mean(), x[mask].mean()) for mask in bright]
    return tuple(round(center / (2 * np.pi) * 8) % 8 for center in centers)


@pytest.mark.parametrize("name", temporal_order.ORDERS)
def test_every_class_has_the_same_frames_in_its_own_order(name):
    order = temporal_order.ORDERS[name]
    assert sorted(order) == list(range(8))
    for seed in range(5):
        assert places(temporal_order.render_clip(np.random.default_rng(seed), order)) == order


@pytest.mark.slow
def test_the_study_prints_a_row_for_each_scheme(tmp_path, monkeypatch, capsys):
    options = ["--train-clips", "4", "--test-clips", "2", "--epochs", "1", "--use-cpu"]
    schemes = ["--attention", "space_only", "divided_space_time", "--positions", "none"]
    monkeypatch.setattr(sys, "argv", ["temporal_order.py", "--folder", str(tmp_path), *options, *schemes])
    temporal_order.main()
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "space_" in line and " to " in line]
    assert rows == [["space_only", "space_time"], ["divided_space_time", "space_time"], ["divided_space_time", "none"]]
