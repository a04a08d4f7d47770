"""Clips as plain numbers: where the instants and indices of a clip lie."""

import math
from fractions import Fraction

import numpy as np
import pytest

from fal_hf.model.clip_sampling import (
    clip_starts,
    random_instants,
    strided_indices,
    strided_instants,
    uniform_indices,
    uniform_instants,
    window_starts,
)

SIZES = [(1, 1), (2, 8), (7, 8), (8, 8), (9, 8), (17, 8), (96, 96), (250, 16), (18000, 8)]


def test_uniform_instants_are_the_midpoints_of_equal_parts():
    assert uniform_instants(8.0, 4).tolist() == [[1.0, 3.0, 5.0, 7.0]]
    assert uniform_instants(8.0, 2, start_seconds=4.0).tolist() == [[5.0, 7.0]]


@pytest.mark.parametrize("num_clips", [1, 2, 3, 5])
def test_interleaved_clips_are_together_one_uniform_clip(num_clips):
    clips = uniform_instants(10.0, 8, num_clips=num_clips)
    assert clips.shape == (num_clips, 8)
    np.testing.assert_allclose(np.sort(clips.ravel()), uniform_instants(10.0, 8 * num_clips)[0], rtol=1e-15)
    assert (np.diff(clips, axis=1) > 0).all()


@pytest.mark.parametrize("num_clips", [2, 4])
def test_each_interleaved_clip_spans_the_whole_video(num_clips):
    for clip in uniform_instants(10.0, 8, num_clips=num_clips):
        assert clip[0] < 10.0 / 8
        assert clip[-1] > 10.0 * 7 / 8


@pytest.mark.parametrize(("total", "num_frames"), SIZES)
@pytest.mark.parametrize("num_clips", [1, 3])
def test_uniform_indices_are_the_frames_on_display_at_the_uniform_instants(total, num_frames, num_clips):
    indices = uniform_indices(total, num_frames, num_clips=num_clips)
    assert indices.shape == (num_clips, num_frames) and indices.dtype == np.int64
    if total < num_frames:
        expected = [[min(i, total - 1) for i in range(num_frames)]] * num_clips
    else:
        parts = num_frames * num_clips
        middles = [math.floor(total * (i + Fraction(1, 2)) / parts) for i in range(parts)]
        expected = [middles[clip::num_clips] for clip in range(num_clips)]
    assert indices.tolist() == expected


def test_uniform_indices_of_as_many_frames_as_there_are_take_each_once():
    assert uniform_indices(96, 96).tolist() == [list(range(96))]


def test_a_clip_longer_than_the_video_holds_the_last_frame():
    assert uniform_indices(3, 8).tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]]
    assert uniform_indices(5, 4, start=3).tolist() == [[3, 4, 4, 4]]
    assert strided_indices(10, 6, stride=3).tolist() == [[0, 3, 6, 9, 9, 9]]
    assert strided_instants(1.0, 4, stride_seconds=0.4).tolist() == [[0.0, 0.4, 0.8, 1.0]]


def test_strided_clips_keep_their_stride_and_begin_at_the_start():
    assert strided_indices(100, 4, stride=5, start=7).tolist() == [[7, 12, 17, 22]]
    np.testing.assert_allclose(strided_instants(9.0, 3, stride_seconds=0.5, start_seconds=2.0), [[2.0, 2.5, 3.0]])


def test_a_stride_of_a_broken_number_of_frames_rounds_down_and_keeps_whole_positions_whole():
    assert strided_indices(100, 4, stride=2.5).tolist() == [[0, 2, 5, 7]]
    assert strided_indices(100, 11, stride=30 * 0.1).tolist() == [list(range(0, 31, 3))]


def test_several_strided_clips_reach_from_the_start_to_the_last_frame():
    clips = strided_indices(100, 5, stride=4, num_clips=3, start=1)
    assert clips[:, 0].tolist() == [1, 42, 83]
    assert clips[-1, -1] == 99
    assert strided_instants(10.0, 4, stride_seconds=0.5, num_clips=3)[:, 0].tolist() == [0.0, 4.0, 8.0]


def test_clip_starts_are_spread_evenly_and_the_last_clip_ends_at_the_end():
    assert clip_starts(10.0, 2.0, num_clips=3).tolist() == [0.0, 4.0, 8.0]
    assert clip_starts(10.0, 2.0, num_clips=3, start_seconds=4.0).tolist() == [4.0, 6.0, 8.0]
    assert clip_starts(10.0, 2.0, num_clips=1).tolist() == [0.0]


def test_clips_that_do_not_fit_all_begin_at_the_start():
    assert clip_starts(1.0, 2.0, num_clips=3).tolist() == [0.0, 0.0, 0.0]
    assert strided_indices(3, 8, stride=2, num_clips=2).tolist() == [[0, 2, 2, 2, 2, 2, 2, 2]] * 2


def test_windows_tile_a_video_and_the_last_one_ends_with_it():
    assert window_starts(10.0, 2.5).tolist() == [0.0, 2.5, 5.0, 7.5]
    assert window_starts(9.0, 2.5).tolist() == [0.0, 2.5, 5.0, 6.5]
    assert window_starts(5.0, 2.0, hop_seconds=1.0, start_seconds=1.0).tolist() == [1.0, 2.0, 3.0]
    assert window_starts(1.5, 2.0).tolist() == [0.0]


def test_a_remainder_of_rounding_is_no_window():
    assert len(window_starts(10.0000001, 2.5)) == 4


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: uniform_instants(0.0, 8), "duration_seconds"),
        (lambda: uniform_instants(math.nan, 8), "duration_seconds"),
        (lambda: uniform_instants(math.inf, 8), "duration_seconds"),
        (lambda: uniform_instants(1.0, 0), "num_frames"),
        (lambda: uniform_instants(1.0, 2.5), "num_frames"),
        (lambda: uniform_instants(1.0, True), "num_frames"),
        (lambda: uniform_instants(1.0, 8, num_clips=0), "num_clips"),
        (lambda: uniform_instants(1.0, 8, start_seconds=1.0), "start_seconds"),
        (lambda: strided_instants(1.0, 8, stride_seconds=-1.0), "stride_seconds"),
        (lambda: strided_instants(1.0, 8, stride_seconds=1.0, start_seconds=2.0), "start_seconds"),
        (lambda: clip_starts(1.0, 0.0, num_clips=2), "clip_seconds"),
        (lambda: window_starts(0.0, 1.0), "duration_seconds"),
        (lambda: window_starts(9.0, -1.0), "window_seconds"),
        (lambda: window_starts(9.0, 1.0, hop_seconds=0.0), "hop_seconds"),
        (lambda: window_starts(9.0, 1.0, hop_seconds=2.0), "hop_seconds"),
        (lambda: window_starts(9.0, 1.0, start_seconds=9.0), "start_seconds"),
        (lambda: window_starts(1e12, 1.0), "hop_seconds"),
        (lambda: uniform_indices(0, 8), "total_frames"),
        (lambda: uniform_indices(None, 8), "total_frames"),
        (lambda: strided_indices(10, 8, stride=0), "stride"),
        (lambda: strided_indices(10, 8, stride=1, start=10), "start"),
        (lambda: strided_indices(10, 8, stride=1, start=0.5), "start"),
        (lambda: strided_indices(10, 8, stride=1, start=-1), "start"),
    ],
)
def test_wrong_arguments_are_refused_by_name_with_what_was_expected_and_what_came(call, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected .*, got "):
        call()


@pytest.mark.parametrize("duration", [0.3, 1.0, 60.0])
def test_random_instants_of_a_stride_begin_anywhere_that_the_clip_fits(duration):
    generator = np.random.default_rng(0)
    clips = np.concatenate([random_instants(duration, 4, stride_seconds=0.1, generator=generator) for _ in range(200)])
    starts, latest = clips[:, 0], max(0.0, duration - 0.4)
    assert clips.min() >= 0 and clips.max() <= duration
    np.testing.assert_allclose(clips, np.minimum(starts[:, None] + 0.1 * np.arange(4), duration))
    assert starts.max() <= latest and starts.max() - starts.min() >= 0.9 * latest


def test_random_instants_without_a_stride_lie_one_in_each_part():
    generator = np.random.default_rng(0)
    clips = np.concatenate([random_instants(8.0, 4, generator=generator) for _ in range(200)])
    parts = clips / 2 - np.arange(4)
    assert parts.min() >= 0 and parts.max() < 1
    assert np.ptp(parts, axis=0).min() > 0.9


def test_random_instants_depend_on_their_generator_alone():
    clips = [random_instants(8.0, 4, generator=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(clips[0], clips[1]) and not np.array_equal(clips[0], clips[2])
