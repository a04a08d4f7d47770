"""Frames as video files."""

from fractions import Fraction

import numpy as np
import pytest
from media_files import moving_frames

from fal_hf import probe, read_frames
from fal_hf.model.video_writing import write_video


def test_frames_are_read_as_they_were_written(tmp_path):
    frames = moving_frames(12)
    write_video(tmp_path / "video.mp4", frames, frame_rate=8)
    info = probe(tmp_path / "video.mp4")
    assert info.num_frames == 12 and info.duration_seconds == pytest.approx(1.5)
    read = read_frames(tmp_path / "video.mp4", indices=range(12)).frames
    assert read.shape == frames.shape
    differences = np.abs(read[:, None].astype(int) - frames[None]).mean(
        axis=(2, 3, 4)
    )  # of each read with each written
    assert differences.argmin(axis=1).tolist() == list(range(12)) and differences.diagonal().max() < 12


def test_a_film_plays_while_it_comes(tmp_path):
    write_video(tmp_path / "video.mp4", moving_frames(12), frame_rate=8)
    data = (tmp_path / "video.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")  # where everything is, before it


def test_frames_may_last_longer_than_a_second(tmp_path):
    write_video(tmp_path / "video.mp4", moving_frames(12), frame_rate=Fraction(15, 16))
    info = probe(tmp_path / "video.mp4")
    assert info.num_frames == 12 and info.duration_seconds == pytest.approx(12.8)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 16, 17, 3), np.uint8),
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((2, 3, 16, 16), np.uint8),
    ],
)
def test_what_is_no_video_is_refused(frames, tmp_path):
    with pytest.raises(ValueError, match=r"video\.mp4: expected frames \(N, H, W, 3\) uint8 of even height and width"):
        write_video(tmp_path / "video.mp4", frames, frame_rate=8)
    assert not list(tmp_path.iterdir())
