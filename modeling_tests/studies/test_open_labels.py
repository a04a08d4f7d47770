"""Descriptions and clips of the study of open labels, and the study on a few of them."""

import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import open_labels

SEEN, NEW_PAIRS, NEW_SPEEDS = open_labels.list_descriptions()


def test_no_description_is_in_two_sets_and_training_sees_every_word():
    labels = [[one.phrases()[0] for one in kind] for kind in (SEEN, NEW_PAIRS, NEW_SPEEDS)]
    assert [len(set(kind)) for kind in labels] == [40, 12, 12] and len({*labels[0], *labels[1], *labels[2]}) == 64
    words = {word for one in SEEN for text in one.phrases() for word in text.split()}
    assert {word for one in [*NEW_PAIRS, *NEW_SPEEDS] for word in one.phrases()[0].split()} <= words


def test_what_is_new_was_never_seen_together():
    seen_pairs = {frozenset(one.moves) for one in SEEN}
    assert not any(frozenset(one.moves) in seen_pairs for one in NEW_PAIRS)
    assert all(frozenset(one.moves) in seen_pairs and one not in SEEN for one in NEW_SPEEDS)


def test_phrases_say_the_same_in_any_order():
    description = open_labels.Description((("pan", 0), ("zoom", 1)), "quickly")
    assert description.phrases() == [
        "the camera pans left while zooming out quickly",
        "quickly panning left and zooming out",
        "panning left and zooming out quickly",
        "the camera zooms out while panning left quickly",
        "quickly zooming out and panning left",
        "zooming out and panning left quickly",
    ]


@pytest.mark.parametrize("description", SEEN[:16], ids=lambda one: one.phrases()[0])
def test_a_clip_shows_what_its_description_says(description):
    """By the similarity transform between its first and last frame, which points that are followed give."""
    rng = np.random.default_rng(0)
    photo = cv2.GaussianBlur(rng.integers(0, 255, (144, 144, 3), dtype=np.uint8), (0, 0), 2)
    photo = cv2.normalize(photo, None, 0, 255, cv2.NORM_MINMAX)
    ((move, way),) = description.moves
    for _ in range(3):
        clip = open_labels.render_clip(rng, photo, description)
        assert clip.shape == (8, 64, 64, 3) and clip.dtype == np.uint8
        scale, angle, shift = follow(clip)
        found = {"pan": -shift[0], "tilt": -shift[1], "zoom": -np.log(scale) * 32, "roll": angle * 32}
        assert max(found, key=lambda name: abs(found[name])) == move
        assert (found[move] > 0) == bool(way)


def follow(clip: np.ndarray) -> tuple[float, float, np.ndarray]:
    """How much larger, turned clockwise (radians) and shifted (pixels) the picture of the last frame is."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip]
    total = np.eye(3)
    for before, after in pairwise(gray):
        points = cv2.goodFeaturesToTrack(before, 100, 0.01, 4)
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=(15, 15), maxLevel=3)
        matrix, _ = cv2.estimateAffinePartial2D(points[found == 1], moved[found == 1])
        total = np.vstack([matrix, [0, 0, 1]]) @ total
    middle = np.array([31.5, 31.5, 1])
    return float(np.hypot(*total[:2, 0])), float(np.arctan2(total[1, 0], total[0, 0])), (total @ middle - middle)[:2]


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(open_labels.HELD_OUT_PHOTOS + 2):
        cv2.imwrite(str(photos / f"{number}.jpg"), np.random.default_rng(number).integers(0, 255, (64, 64, 3)))
    options = ["--steps", "2", "--batch-size", "2", "--clips-each", "1", "--seeds", "2"]
    command = ["open_labels.py", "--photos", str(photos), "--folder", str(tmp_path / "runs"), *options]
    monkeypatch.setattr(sys, "argv", command)
    open_labels.main()
    table = capsys.readouterr().out
    rows = [row.split(" | ") for row in table.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| words"] * 6 + ["| fixed head"] + ["| fixed head, trained on all"] * 2
    assert all(0 <= float(row[3]) <= 1 for row in rows)
    monkeypatch.setattr(open_labels, "train", lambda *_, **__: pytest.fail("trained again"))
    open_labels.main()
    assert capsys.readouterr().out == table
