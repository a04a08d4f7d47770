"""Stretches of a video."""

from dataclasses import replace

import pytest
from media_files import VIDEO_INFO as INFO

from fal_hf.model.video_info import WHOLE, Stretch


def test_the_whole_of_a_video_is_the_video():
    assert WHOLE.is_whole and WHOLE.within(INFO) is INFO
    assert not Stretch(0.0, 10.0).is_whole and not Stretch(1.0).is_whole


@pytest.mark.parametrize(("start", "end", "duration"), [(2.0, 5.0, 3.0), (2.0, None, 8.0), (9.0, 99.0, 1.0)])
def test_a_stretch_lasts_as_far_as_the_video_does(start, end, duration):
    assert Stretch(start, end).within(INFO) == replace(INFO, duration_seconds=duration, num_frames=None)


def test_a_stretch_behind_the_end_is_refused():
    with pytest.raises(ValueError, match=r"ends at 10\.000 s, the clip begins at 10\.0 s"):
        Stretch(10.0, 12.0).within(INFO)


@pytest.mark.parametrize(
    ("start", "end"), [(-1.0, None), (2.0, 2.0), (3.0, 2.0), (float("nan"), None), (0.0, float("nan"))]
)
def test_numbers_that_are_no_stretch_are_refused(start, end):
    with pytest.raises(ValueError, match="expected 0 <= start_seconds < end_seconds"):
        Stretch(start, end)
