"""The films of the study of long videos, and what it says of its rows."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

import long_videos
import pandas

from fal_hf.model.clip_sampling import clip_starts
from fal_hf.model.video_file import probe
from fal_hf.training import write_video


def find_events(frames: np.ndarray) -> list[tuple[int, bool]]:
    """The first frame of each event, and whether its stripes stand: brightness changes along a row then."""
    gray = frames.mean(axis=-1)
    along_row, along_column = (gray.mean(axis=axis).std(axis=1) for axis in (1, 2))
    shown = np.maximum(along_row, along_column) > 20
    firsts = np.flatnonzero(shown & ~np.roll(shown, 1))
    return [(int(first), bool(along_row[first] > along_column[first])) for first in firsts]


@pytest.mark.parametrize("label", long_videos.STANDING)
def test_a_film_has_as_many_standing_events_as_its_label_says(label):
    for seed in range(5):
        events = find_events(long_videos.draw_film(np.random.default_rng(seed), label))
        assert len(events) == long_videos.NUM_EVENTS
        assert sum(stands for _, stands in events) == long_videos.STANDING[label]


def test_the_shortest_clip_sees_one_event_at_most():
    shortest = min(long_videos.PAPER)
    closest = []
    for seed in range(20):
        firsts = [first for first, _ in find_events(long_videos.draw_film(np.random.default_rng(seed), "six"))]
        closest.append(min(np.diff(firsts)))
    assert min(closest) == long_videos.LEAST_DISTANCE
    # From the last frame of one event to the first one of the next.
    assert min(closest) - (long_videos.EVENT_FRAMES - 1) >= shortest


def test_clips_cover_a_film_without_overlap_as_in_the_paper(tmp_path):
    path = tmp_path / "film.mp4"
    write_video(path, long_videos.draw_film(np.random.default_rng(0), "two"), frame_rate=long_videos.FRAME_RATE)
    duration = probe(path).duration_seconds
    assert duration == pytest.approx(409.6)
    cases = {case["num_frames"]: case["num_clips"] for case in long_videos.cases("small")}
    assert cases == {8: 48, 32: 12, 64: 6, 96: 4}
    for num_frames, num_clips in cases.items():
        seconds = num_frames / float(long_videos.FRAME_RATE)
        starts = clip_starts(duration, seconds, num_clips=num_clips)
        assert np.diff(starts) == pytest.approx(seconds) and starts[-1] + seconds == pytest.approx(duration)


def test_claims_follow_from_the_rows():
    accuracies = {8: [50, 51, 49], 32: [70, 69, 72], 64: [71, 69, 71], 96: [90, 91, 92]}
    rows = [
        {"num_frames": frames, "num_clips": 384 // frames, "seed": seed, "accuracy_percent": accuracy}
        for frames, each in accuracies.items()
        for seed, accuracy in enumerate(each)
    ]
    text = long_videos.tell(pandas.DataFrame(rows).assign(machine="one", versions="all", date="2026-01-01"))
    ends = {line.split(" | ")[0]: line.rpartition(": ")[2] for line in text.splitlines() if " over " in line}
    assert ends == {
        "| 32 frames over 8": "holds |",
        "| 64 frames over 32": "does not show |",
        "| 96 frames over 64": "holds |",
        "| 96 frames over 8": "holds |",
    }
    assert "| 96 frames over 8 | 5.8 | 41.0 ± " in text and "| 8 | 8.5 | 48 | 50.0 ± 2.5 | 56.8 |" in text
