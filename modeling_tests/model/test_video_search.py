"""Finding frames among packets; test_video_file.py asks for frames of files of all kinds."""

from contextlib import closing

import pytest
from media_files import moving_frames, write_video

from fal_hf.model.video_search import Playhead
from fal_hf.model.video_source import VideoError, VideoSource


@pytest.fixture
def source(tmp_path):
    path = write_video(tmp_path / "moving.mp4", moving_frames(30), options={"g": "10", "bf": "2"})
    with closing(VideoSource(path, name="moving.mp4", num_threads=1, max_pixels=2**20)) as source:
        yield source


def test_a_frame_is_on_display_until_the_next_one(source):
    playhead = Playhead(source)
    playhead.first_frame()
    step = int(1 / (source.frame_rate * source.time_base))
    shown = [
        playhead.frame_at(playhead.start + ticks).pts - playhead.start for ticks in (0, step - 1, step, 17 * step)
    ]
    assert shown == [0, 0, step, 17 * step]


@pytest.mark.parametrize("first", [0, 7, 25])
def test_all_frames_from_an_instant_on_follow_in_order(source, first):
    playhead = Playhead(source)
    playhead.first_frame()
    step = int(1 / (source.frame_rate * source.time_base))
    times = [frame.pts - playhead.start for frame in playhead.frames_from(playhead.start + first * step)]
    assert times == [number * step for number in range(first, 30)]


def test_an_instant_behind_the_end_is_refused(source):
    playhead = Playhead(source)
    playhead.first_frame()
    with pytest.raises(VideoError, match=r"moving\.mp4: ends at 1\.200 s, before the instant 4\.000 s"):
        playhead.frame_at(playhead.start + int(4 / source.time_base))
