"""How the study of features measures and draws them."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import features
import numpy as np
import pandas
from matplotlib import pyplot

LABELS = ["a"] * 10 + ["b"] * 10


def draw_features(seed: int, *, distance: float) -> np.ndarray:
    """Of two classes, so far apart."""
    centers = np.repeat([[distance, 0, 0], [0, distance, 0]], 10, axis=0)
    return centers + np.random.default_rng(seed).normal(0, 1, (20, 3))


def test_features_that_are_apart_are_separable_and_others_are_not():
    near, far = (
        features.measure_separability(
            draw_features(0, distance=distance), LABELS, (draw_features(1, distance=distance), LABELS)
        )
        for distance in (0.0, 20.0)
    )
    assert far["neighbors_percent"] == 100 and far["silhouette_percent"] > 90
    assert near["neighbors_percent"] < 80 and abs(near["silhouette_percent"]) < 20


def test_lengths_of_features_do_not_count():
    clips, bank = draw_features(0, distance=3.0), (draw_features(1, distance=3.0), LABELS)
    scaled = clips * np.arange(1, 21)[:, None]
    assert features.measure_separability(scaled, LABELS, bank) == pytest.approx(
        features.measure_separability(clips, LABELS, bank)
    )


def test_the_map_is_the_same_each_time_and_within_its_plane():
    clips = draw_features(0, distance=5.0)
    places = features.map_features(clips)
    assert places.shape == (20, 2) and places.min() == 0 and places.max() == 100
    assert (places == features.map_features(clips)).all()


def test_frames_are_unpacked_as_they_were():
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1), dtype=np.uint8).repeat(3, axis=3)
    assert (features.unpack_frames(features.pack_frames(frames)) == np.concatenate(list(frames[..., 0]), axis=1)).all()


def make_rows():
    """Rows of two seeds; divided features are the more separable ones in `order` alone."""
    rows = []
    for data, seed in (("order", 0), ("order", 1), ("surveillance", 0), ("surveillance", 1)):
        for kind in features.KINDS:
            value = 80.0 + seed if data == "order" and kind == features.DIVIDED else 50.0
            about = {"machine": "one", "versions": "1", "date": "today", **features.NO_PICTURE}
            if seed == 0:
                about["map"] = json.dumps({"points": [[0, 1], [100, 40]], "labels": ["a", "b"]})
            if seed == 0 and data == "order":
                about["heat"] = json.dumps([[[0, 4], [1, 0]]] * 2)
                about["frames"] = features.pack_frames(np.zeros((2, 8, 8, 3), np.uint8))
            figures = dict.fromkeys(("accuracy_percent", *features.FIGURES), value)
            rows.append({"data": data, "model": kind, "seed": seed, **figures, **about})
    return pandas.DataFrame(rows)


def test_claims_are_told_by_data_set():
    lines = [line for line in features.tell(make_rows()).splitlines() if line.startswith("| space only |")]
    assert len(lines) == len(features.FIGURES)
    assert all(line.count("holds") == 1 and line.endswith("0.0 ± 0.0: does not show |") for line in lines)


def test_maps_and_frames_are_drawn_from_rows_alone():
    figure = features.draw(make_rows())
    assert len(figure.axes) == 3 * len(features.KINDS)  # maps of two data sets, frames of one
    assert sum(len(panel.images) for panel in figure.axes) == len(features.KINDS)
    pyplot.close(figure)
