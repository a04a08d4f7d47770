"""From a plan to the frames of its clips, in one pass."""

import numpy as np
import pytest
from media_files import moving_frames, write_video

from fal_hf.model.clip_plan import ClipPlan
from fal_hf.model.clip_reading import gather_clips, read_all_clips, read_clips
from fal_hf.model.video_file import VideoError, VideoFile, read_frames


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "moving.mp4", moving_frames(30))


PLANS = [
    np.array([[0.0, 0.4, 0.8], [0.2, 0.4, 1.1]]),
    np.array([[0, 10, 20], [5, 10, 29]]),
    np.array([[3, 3, 4]]),
]


@pytest.mark.parametrize("positions", PLANS)
def test_clips_come_one_by_one_and_all_at_once_with_the_frames_of_their_plan(video, positions):
    plan = ClipPlan(positions=positions)
    kind = "indices" if plan.counts_frames else "seconds"
    expected = [read_frames(video, **{kind: clip}) for clip in positions]
    with VideoFile(video) as file:
        streamed = list(read_clips(file, plan))
        decoded, rows = read_all_clips(file, plan)
    assert len(decoded.frames) == len(np.unique(positions)) and rows.shape == positions.shape
    for clip, row, wanted in zip(streamed, rows, expected, strict=True):
        np.testing.assert_array_equal([frame.image for frame in clip], wanted.frames)
        np.testing.assert_array_equal(decoded.frames[row], wanted.frames)
        assert [frame.seconds for frame in clip] == decoded.seconds[row].tolist() == wanted.seconds.tolist()


def test_frames_are_processed_once_on_their_way(video):
    seen = []

    def process(frames):
        for frame in frames:
            seen.append(frame.index)
            yield frame

    with VideoFile(video) as file:
        clips = list(read_clips(file, ClipPlan(positions=np.array([[1, 4, 7], [4, 7, 9]])), process=process))
    assert seen == [1, 4, 7, 9]
    assert [[frame.index for frame in clip] for clip in clips] == [[1, 4, 7], [4, 7, 9]]


def test_repeated_frames_are_refused_by_the_videos_name_in_both_ways(video):
    plan = ClipPlan(positions=np.array([[0.0, 0.01, 0.5]]), may_repeat=False)
    with VideoFile(video) as file:
        for read in (lambda: list(read_clips(file, plan)), lambda: read_all_clips(file, plan)):
            with pytest.raises(VideoError, match=r"moving\.mp4: too short for 3 different frames.*short_clip"):
                read()


def test_more_frames_than_fit_are_refused_before_they_are_copied(video):
    plan = ClipPlan(positions=np.zeros((1, 10**7), np.int64))
    with (
        VideoFile(video) as file,
        pytest.raises(VideoError, match=r"moving\.mp4: 10000000 frames .* max_output_bytes"),
    ):
        read_all_clips(file, plan)


# ---- dealing frames out ----


def test_frames_are_forgotten_after_the_last_clip_that_needs_them():
    rows = np.stack([np.arange(start, start + 8) for start in range(0, 400, 4)])
    alive = set()

    class Frame:
        def __init__(self, number):
            self.number = number
            alive.add(number)

        def __del__(self):
            alive.remove(self.number)

    most = 0
    for row, clip in zip(rows, gather_clips(map(Frame, range(404)), rows), strict=True):
        assert [frame.number for frame in clip] == row.tolist()
        most = max(most, len(alive))
        del clip
    assert most <= 12


def test_clips_that_repeat_a_frame_or_go_back_get_the_frames_they_name():
    rows = np.array([[0, 2, 2], [1, 3, 3], [0, 1, 4]])
    assert list(gather_clips(iter("abcde"), rows)) == [list("acc"), list("bdd"), list("abe")]
