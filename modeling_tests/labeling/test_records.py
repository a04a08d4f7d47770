"""Records of failed videos, and where in its video a record stands."""

from fal_hf.labeling.records import SCHEMA_VERSION, failed_record, time_of
from fal_hf.model.video_info import Stretch


def test_a_failed_record_has_the_reason_and_the_stretch_if_there_was_one():
    plain = {"video": "a.mp4", "error": "a.mp4: is empty", "schema_version": SCHEMA_VERSION}
    assert failed_record("a.mp4", "a.mp4: is empty") == plain
    stretched = failed_record("a.mp4", "a.mp4: is empty", Stretch(2.0))
    assert stretched == {**plain, "start_seconds": 2.0, "end_seconds": None}


def test_a_record_stands_for_its_stretch_or_for_the_whole_video():
    assert time_of({"duration_seconds": 4.0}) == (0.0, 4.0)
    assert time_of({"duration_seconds": 4.0, "start_seconds": 3.0, "end_seconds": 7.0}) == (3.0, 7.0)
