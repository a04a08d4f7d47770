"""The perturbations of the study of robustness, the files with them, and what it says of its rows."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import pandas
import robustness

from fal_hf.model.video_file import read_frames
from fal_hf.training import write_video
from fal_hf.training.data import LabeledClip, load_clips

SEEDS = range(20)


def numbered(count: int = 8) -> np.ndarray:
    """(count, 4, 6, 3) uint8: frames that show their number, from 1."""
    return np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None], (count, 4, 6, 3)).copy()


def numbers(kind: str, seed: int, count: int = 8) -> list[int]:
    """Which frames a perturbation shows."""
    frames = numbered(count)
    changed = robustness.PERTURBATIONS[kind].change(frames, np.random.default_rng(seed))
    assert (frames == numbered(count)).all(), "expected the frames that were given to stay as they are"
    assert (changed == changed[:, :1, :1, :1]).all()
    return changed[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("kind", robustness.PERTURBATIONS)
@pytest.mark.parametrize("count", [1, 2, 8, 17])
def test_a_perturbation_keeps_the_shape_and_follows_from_its_seed(kind, count):
    frames = np.random.default_rng(0).integers(0, 256, (count, 10, 14, 3), dtype=np.uint8)
    one, again = (robustness.PERTURBATIONS[kind].change(frames, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == frames.shape and one.dtype == np.uint8
    assert (one == again).all()


def test_the_frame_before_a_lost_one_is_held():
    for seed in SEEDS:
        shown = numbers("dropped", seed)
        lost = [place for place in range(1, 8) if shown[place] != place + 1]
        assert shown[0] == 1 and len(lost) == 2
        assert all(shown[place] == shown[place - 1] for place in lost)


def test_shuffled_frames_are_all_there_in_another_order():
    orders = {tuple(numbers("shuffled", seed)) for seed in SEEDS}
    assert len(orders) > 15 and {tuple(sorted(order)) for order in orders} == {tuple(range(1, 9))}


def test_frames_at_another_speed_begin_with_the_first_one_and_end_by_holding_the_last():
    paces = {tuple(numbers("speed", seed)) for seed in SEEDS}
    for shown in paces:
        steps = np.diff(shown)
        assert shown[0] == 1 and (steps >= 0).all() and (steps <= 2).all() and max(shown) <= 8
    assert any(shown[-1] == 8 and shown[-2] == 8 for shown in paces), "expected some that are faster"
    assert any(shown[-1] < 7 for shown in paces), "expected some that are slower"


def test_a_quarter_of_the_frames_is_black_one_after_the_other():
    starts = set()
    for seed in SEEDS:
        black = np.flatnonzero(np.array(numbers("black", seed)) == 0)
        assert len(black) == 2 and black[1] == black[0] + 1
        starts.add(black[0])
    assert {0, 6} <= starts <= set(range(7))


def test_half_the_resolution_takes_what_is_fine_and_leaves_what_is_coarse():
    fine = np.zeros((2, 16, 16, 3), np.uint8)
    fine[:, ::2, ::2] = fine[:, 1::2, 1::2] = 200
    coarse = np.full((2, 16, 16, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    assert np.ptp(robustness.halve_resolution(fine, rng)) == 0
    assert (robustness.halve_resolution(coarse, rng) == 90).all()


def test_noise_is_as_strong_as_it_says():
    frames = np.full((8, 32, 32, 3), 128, np.uint8)
    noise = robustness.add_noise(frames, np.random.default_rng(0)).astype(float) - 128
    assert abs(noise.mean()) < 1 and noise.std() == pytest.approx(robustness.NOISE_LEVELS, rel=0.03)


def test_files_have_their_perturbation(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)
    paths = {kind: tmp_path / f"{kind}.mp4" for kind in ("clean", "compressed", "black")}
    for kind, path in paths.items():
        robustness.write_perturbed(path, frames, kind)
    assert paths["compressed"].stat().st_size < paths["clean"].stat().st_size / 3
    assert sum(read_frames(paths["black"]).frames.mean(axis=(1, 2, 3)) < 20) == 2


def test_the_name_of_a_file_says_what_is_random_about_it(monkeypatch):
    written = []
    monkeypatch.setattr(
        robustness, "write_video", lambda path, frames, **_: written.append(frames[:, 0, 0, 0].tolist())
    )
    for name in ("a/0001.mp4", "b/0001.mp4", "b/0002.mp4"):
        robustness.write_perturbed(Path(name), numbered(17), "shuffled")
    assert written[0] == written[1] != written[2]


def test_a_file_is_seen_at_the_rate_and_size_of_the_models(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = np.repeat(np.arange(0, 200, 8, dtype=np.uint8), 2)[:50, None, None, None]  # 2 s of 25 frames each
    write_video(path, np.broadcast_to(frames, (50, 120, 160, 3)), frame_rate=25)
    seen = robustness.read_as_seen(str(path), 64)
    assert seen.shape == (16, 64, 86, 3)
    assert np.diff(seen.mean(axis=(1, 2, 3))).min() > 0


def test_prepare_writes_every_clip_with_every_perturbation_once(tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "available", lambda: ["order"])
    files = tmp_path / "robustness"
    robustness.prepare(files, "toy")
    splits = load_clips(robustness.make_clips(files, "toy", "order"), seed=0)
    clips = [clip for part in splits.values() for clip in part]
    folder = robustness.clips_folder(files, "toy", "order")
    for kind in robustness.kinds_of("toy"):
        paths = {robustness.written_path(folder, kind, clip) for clip in clips}
        assert len(paths) == len(clips) == 24 and paths == set((folder / kind).iterdir())
    monkeypatch.setattr(robustness, "write_perturbed", lambda *_: pytest.fail("written again"))
    robustness.prepare(files, "toy")


def test_training_and_test_clips_of_one_name_have_their_own_files():
    clips = [LabeledClip(path=f"/clips/{part}/left/0000.mp4", labels=("left",)) for part in ("train", "test")]
    one, other = (robustness.written_path(Path("x"), "clean", clip) for clip in clips)
    assert one != other


def make_rows(**figures: list[float]) -> pandas.DataFrame:
    count = len(next(iter(figures.values())))
    origin = {"machine": "one", "versions": "all", "date": "2026-01-01"}
    return pandas.DataFrame({"data": ["order"] * count, "seed": range(count), **figures, **origin})


def test_drops_and_recoveries_are_of_the_accuracy_without_perturbation():
    rows = make_rows(clean_percent=[80.0, 90.0], dropped_percent=[60.0, 81.0], dropped_trained_percent=[76.0, 81.0])
    assert robustness.drops(rows, "dropped").tolist() == [20.0, 9.0]
    assert robustness.gains(rows, "dropped").tolist() == [16.0, 0.0]
    assert robustness.recoveries(rows, "dropped").tolist() == pytest.approx([95.0, 90.0])


def test_claims_follow_from_the_rows():
    rows = make_rows(
        clean_percent=[90.0, 91.0, 89.0],
        clean_trained_percent=[90.0, 91.0, 89.0],
        dropped_percent=[80.0, 82.0, 79.0],
        dropped_trained_percent=[88.0, 89.0, 88.0],
        shuffled_percent=[30.0, 31.0, 30.0],
        shuffled_trained_percent=[29.0, 32.0, 30.0],
    )
    lines = {tuple(line.split(" | ")[:2]): line for line in robustness.tell(rows).splitlines()}
    assert lines["| a quarter of the frames lost", "5.5"].endswith("50.0 ± 2.5: holds |")
    gained = [line for line in lines.values() if ": " in line and line.startswith("| ")]
    assert any(line.startswith("| a quarter of the frames lost") and line.endswith(": holds |") for line in gained)
    assert any(line.startswith("| frames shuffled") and line.endswith(": does not show |") for line in gained)
