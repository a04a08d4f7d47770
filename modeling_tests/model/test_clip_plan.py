"""From options and what is known of a video to the frames of its clips."""

from dataclasses import replace

import numpy as np
import pytest
from media_files import VIDEO_INFO as INFO

from fal_hf.model.clip_plan import ClipPlan, Sampling
from fal_hf.model.clip_sampling import strided_indices, strided_instants, uniform_indices, uniform_instants
from fal_hf.model.video_info import Stretch

DEFAULTS = {
    "do_sample_frames": True,
    "num_frames": 8,
    "fps": None,
    "frame_stride": None,
    "frame_interval_seconds": None,
    "start_seconds": 0.0,
    "end_seconds": None,
    "num_clips": 1,
    "short_clip": "hold",
}


def sampling(**options) -> Sampling:
    return Sampling(**{**DEFAULTS, **options})


@pytest.mark.parametrize(
    ("options", "info", "expected"),
    [
        ({}, INFO, uniform_instants(10.0, 8)),
        ({"num_clips": 3, "start_seconds": 2.0}, INFO, uniform_instants(10.0, 8, num_clips=3, start_seconds=2.0)),
        ({"frame_interval_seconds": 0.5}, INFO, strided_instants(10.0, 8, stride_seconds=0.5)),
        ({"fps": 2.0}, INFO, uniform_instants(10.0, 20)),
        ({"frame_stride": 4}, INFO, strided_indices(250, 8, stride=4)),
        ({"frame_stride": 4, "start_seconds": 2.01}, INFO, strided_indices(250, 8, stride=4, start=50)),
        ({"frame_stride": 4, "end_seconds": 0.5, "num_clips": 2}, INFO, strided_indices(13, 8, stride=4, num_clips=2)),
        ({}, replace(INFO, num_frames=5, duration_seconds=0.2), uniform_indices(5, 8)),
        ({"start_seconds": 9.84}, INFO, uniform_indices(250, 8, start=246)),
        ({"end_seconds": 4.0}, INFO, uniform_instants(4.0, 8)),
        ({"end_seconds": 99.0, "start_seconds": 6.0}, INFO, uniform_instants(10.0, 8, start_seconds=6.0)),
    ],
)
def test_the_plan_of_a_file_counts_frames_or_names_instants(options, info, expected):
    plan = sampling(**options).plan(info, frame_seconds=lambda: np.arange(info.num_frames) / 25)
    assert plan.counts_frames == (expected.dtype.kind == "i") and plan.may_repeat
    np.testing.assert_array_equal(plan.positions, expected)


@pytest.mark.parametrize("options", [{}, {"frame_interval_seconds": 0.3, "num_clips": 2}, {"start_seconds": 1.0}])
def test_a_stretch_is_planned_like_a_video_of_its_length(options):
    stretched = sampling(**options).plan(INFO, Stretch(3.0, 7.0))
    alone = sampling(**options).plan(replace(INFO, duration_seconds=4.0, num_frames=None))
    np.testing.assert_array_equal(stretched.positions, 3.0 + alone.positions)


def test_frames_of_a_stretch_are_counted_from_its_beginning_to_its_end():
    plan = sampling(frame_stride=20).plan(INFO, Stretch(3.0, 7.0), frame_seconds=lambda: np.arange(250) / 25)
    assert plan.positions.tolist() == [[75, 95, 115, 135, 155, 174, 174, 174]]


def test_frames_that_come_irregularly_are_counted_as_they_come():
    frame_seconds = np.concatenate([np.arange(100) / 100, 1 + np.arange(9)])
    info = replace(INFO, num_frames=109, frame_rate=10.9)
    plan = sampling(frame_stride=1, start_seconds=2.5).plan(info, frame_seconds=lambda: frame_seconds)
    assert plan.positions.tolist() == [[101, 102, 103, 104, 105, 106, 107, 108]]
    held = sampling(start_seconds=5.5).plan(info, frame_seconds=lambda: frame_seconds)
    assert held.counts_frames is False  # their mean rate does not show how few are left: they are spread over the time


def test_without_the_times_of_frames_a_stride_is_taken_times_their_mean_distance():
    plan = sampling(frame_stride=5).plan(INFO)
    np.testing.assert_array_equal(plan.positions, strided_instants(10.0, 8, stride_seconds=0.2))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, uniform_indices(100, 8)),
        ({"frame_interval_seconds": 0.4}, strided_indices(100, 8, stride=10)),
        ({"end_seconds": 2.0}, uniform_indices(50, 8)),
        ({"start_seconds": 1.0}, uniform_indices(100, 8, start=25)),
    ],
)
def test_given_frames_are_counted(options, expected):
    np.testing.assert_array_equal(sampling(**options).plan_given(100, rate=25.0).positions, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_seconds": 12.0}, r"ends at 10\.000 s, before `start_seconds`, which is 12\.0 s"),
        ({"frame_stride": 2, "num_clips": 1}, "`frame_stride` needs the frame rate"),
    ],
)
def test_options_that_do_not_fit_a_file_are_refused(options, message):
    info = replace(INFO, num_frames=None, frame_rate=None)
    with pytest.raises(ValueError, match=message):
        sampling(**options).plan(info)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, "`num_frames` must be positive"),
        ({"start_seconds": -1.0}, "`start_seconds` must not be negative"),
        ({"start_seconds": 2.0, "end_seconds": 2.0}, "`end_seconds` must be after `start_seconds`"),
        ({"end_seconds": float("nan")}, "`end_seconds` must be after `start_seconds`"),
        ({"short_clip": "loop"}, '"hold" or "error"'),
        ({"frame_stride": 2, "fps": 1.0}, "At most one of"),
        ({"num_frames": None}, "`num_frames` or `fps`"),
    ],
)
def test_options_that_are_wrong_or_contradict_one_another_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sampling(**options)


def test_repeats_are_refused_where_a_clip_must_not_have_any():
    rising, repeating = np.array([[0.0, 0.1, 0.2]]), np.array([[0.0, 0.1, 0.2], [0.3, 0.3, 0.4]])
    for may_repeat in (True, False):
        ClipPlan(positions=rising, may_repeat=may_repeat).check_repeats(rising)
    ClipPlan(positions=rising).check_repeats(repeating)
    with pytest.raises(ValueError, match="too short for 3 different frames as asked for"):
        ClipPlan(positions=rising, may_repeat=False).check_repeats(repeating)
