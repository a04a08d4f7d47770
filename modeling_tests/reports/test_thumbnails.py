"""Frames of videos as small pictures."""

import io

import numpy as np
import pytest
from media_files import write_video
from PIL import Image

from fal_hf import VideoError
from fal_hf.model.video_info import Stretch
from fal_hf.reports.thumbnails import thumbnails


def gray_levels(pictures: list[bytes]) -> list[float]:
    return [float(np.asarray(Image.open(io.BytesIO(picture))).mean()) for picture in pictures]


@pytest.fixture(scope="module")
def brightening(tmp_path_factory) -> str:
    """Eight seconds, each as bright as 20 times its number."""
    seconds = np.repeat(np.arange(8) * 20, 10).astype(np.uint8)
    frames = np.broadcast_to(seconds[:, None, None, None], (80, 96, 160, 3))
    return str(write_video(tmp_path_factory.mktemp("videos") / "brightening.mp4", frames, rate=10))


def test_pictures_are_of_the_middles_of_equal_parts(brightening):
    pictures = thumbnails(brightening)
    assert gray_levels(pictures) == pytest.approx([20, 60, 100, 140], abs=4)
    assert all(Image.open(io.BytesIO(picture)).format == "JPEG" for picture in pictures)
    stretch = Stretch(start_seconds=2.0, end_seconds=4.0)
    assert gray_levels(thumbnails(brightening, stretch=stretch, count=2)) == pytest.approx([40, 60], abs=4)


def test_pictures_are_no_larger_than_asked_for_and_never_enlarged(brightening):
    for side, size in ((80, (80, 48)), (1000, (160, 96))):
        (picture,) = thumbnails(brightening, count=1, side=side)
        assert Image.open(io.BytesIO(picture)).size == size


def test_a_frame_that_stays_is_one_picture(tmp_path):
    still = write_video(tmp_path / "still.mp4", np.full((1, 48, 64, 3), 90, dtype=np.uint8))
    assert len(thumbnails(still)) == 1


def test_videos_without_such_a_stretch_and_files_that_are_none_are_refused(brightening, tmp_path):
    with pytest.raises(VideoError, match="the clip begins at 9"):
        thumbnails(brightening, stretch=Stretch(start_seconds=9.0))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        thumbnails(tmp_path / "text.mp4")
