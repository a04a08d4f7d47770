"""Records of failed videos, and where in its video a record stands."""

import json
import math

import pytest

from fal_hf.labeling.label_files import write_labels
from fal_hf.labeling.records import SCHEMA_VERSION, failed_record, is_record, time_of
from fal_hf.model.video_info import Stretch


def test_a_failed_record_has_the_reason_and_the_stretch_if_there_was_one():
    plain = {"video": "a.mp4", "error": "a.mp4: is empty", "schema_version": SCHEMA_VERSION}
    assert failed_record("a.mp4", "a.mp4: is empty") == plain
    stretched = failed_record("a.mp4", "a.mp4: is empty", Stretch(2.0))
    assert stretched == {**plain, "start_seconds": 2.0, "end_seconds": None}


def test_a_record_stands_for_its_stretch_or_for_the_whole_video():
    assert time_of({"duration_seconds": 4.0}) == (0.0, 4.0)
    assert time_of({"duration_seconds": 4.0, "start_seconds": 3.0, "end_seconds": 7.0}) == (3.0, 7.0)


LABEL = {"label": "x", "score": 0.5}
SEGMENT = {"start_seconds": 0.0, "end_seconds": 1.0, **LABEL, "peak": 0.75}
WINDOW = {"start_seconds": 0.0, "end_seconds": 1.0, "labels": [LABEL]}
PLAIN = {
    "video": "a.mp4",
    "labels": [LABEL],
    "num_clips": 1,
    "duration_seconds": 4.0,
    "frame_rate": None,
    "schema_version": SCHEMA_VERSION,
}
TIMELINE = {**PLAIN, "start_seconds": 0.0, "end_seconds": 4.0, "parents": [LABEL], "windows": [WINDOW]}
TIMELINE |= {"segments": [SEGMENT], "num_reused_windows": 1}


@pytest.mark.parametrize(
    "record", [PLAIN, TIMELINE, failed_record("a", "why"), failed_record("a", "why", Stretch(2.0))]
)
def test_a_record_is_known_as_one_after_a_file(record):
    assert is_record(json.loads(json.dumps(record)))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "a.vtt"])
def test_what_is_known_as_a_record_can_be_written(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    extreme = {**TIMELINE, "duration_seconds": 1e15, "labels": [{"label": "\0", "score": math.nan}]}
    assert is_record(extreme)
    assert write_labels(tmp_path / name, [extreme]) == [tmp_path / name]


@pytest.mark.parametrize(
    "change",
    [
        {"video": None},
        {"labels": []},
        {"labels": {}},
        {"labels": [{"label": "x"}]},
        {"labels": [{**LABEL, "score": "0.5"}]},
        {"labels": [{**LABEL, "place": 1}]},
        {"duration_seconds": None},
        {"duration_seconds": 1e300},
        {"duration_seconds": math.nan},
        {"frame_rate": True},
        {"frame_rate": -25.0},
        {"segments": [LABEL]},
        {"segments": [{**SEGMENT, "end_seconds": None}]},
        {"windows": [{**WINDOW, "labels": []}]},
        {"parents": [None]},
        {"num_reused_windows": "1"},
        {"error": "both"},
        {"more": 1},
    ],
    ids=str,
)
def test_what_a_damaged_file_holds_is_no_record(change):
    assert not is_record({**TIMELINE, **change})
    assert not is_record([TIMELINE]) and not is_record({name: TIMELINE[name] for name in ("video", "labels")})
