"""Explanations as files: what is in them, and that what is hot shows where it is."""

from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from fal_hf import Explanation
from fal_hf.labeling.label_files import OutputError
from fal_hf.reports.heat_pictures import (
    MARGIN,
    check_picture,
    color_heat,
    draw_film,
    draw_sheet,
    find_frame_rate,
    write_explanation,
)

FRAMES = 5


@pytest.fixture
def explanation() -> Explanation:
    """Gray frames of 121 x 81 pixels, and heat in one of 6 x 4 patches of the third one."""
    heat = np.full((FRAMES, 4, 6), 0.001, np.float32)
    heat[2, 3, 1] = 1
    return Explanation(
        video="a.mp4",
        label="zebra",
        score=0.75,
        method="rollout",
        heat=heat / heat.sum(),
        seconds=np.arange(FRAMES) / 4,
        frames=np.full((FRAMES, 81, 121, 3), 128, np.uint8),
    )


def hottest_place(overlay: np.ndarray) -> tuple[float, float]:
    """The middle of the brightest pixels, as shares of height and width."""
    light = overlay.astype(float).sum(-1)
    rows, columns = np.nonzero(light > 0.9 * light.max())
    return (rows.mean() + 0.5) / light.shape[0], (columns.mean() + 0.5) / light.shape[1]


def check_film(pictures: list[np.ndarray]) -> None:
    """Frame and overlay side by side, at three times 121 x 81 pixels; the third overlay is hot in its patch."""
    width, height, top = 363, 243, 2 * MARGIN + 18
    assert len(pictures) == FRAMES
    for number, picture in enumerate(pictures):
        frame = picture[top : top + height, MARGIN : MARGIN + width]
        assert abs(frame.astype(int) - 128).max() < 6
        overlay = picture[top : top + height, 2 * MARGIN + width :][:, :width]
        if number == 2:
            assert hottest_place(overlay) == pytest.approx((3.5 / 4, 1.5 / 6), abs=0.06)
            assert overlay.max() > 180
        else:
            assert overlay.max() < 80


def test_a_film_plays_in_browsers_and_shows_where_it_is_hot(explanation, tmp_path):
    path = tmp_path / "new" / "film.mp4"
    write_explanation(path, explanation)
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 4
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    check_film(pictures)
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    assert [file.name for file in path.parent.iterdir()] == ["film.mp4"]


def test_an_animation_has_the_same_frames(explanation, tmp_path):
    write_explanation(tmp_path / "film.GIF", explanation)
    with Image.open(tmp_path / "film.GIF") as animation:
        assert (animation.format, animation.n_frames, animation.info["duration"]) == ("GIF", FRAMES, 250)
        pictures = []
        for number in range(FRAMES):
            animation.seek(number)
            pictures.append(np.asarray(animation.convert("RGB")))
    check_film(pictures)


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG")])
def test_a_sheet_has_frames_above_their_heat(explanation, suffix, kind, tmp_path):
    write_explanation(tmp_path / f"sheet.{suffix}", explanation)
    with Image.open(tmp_path / f"sheet.{suffix}") as image:
        assert image.format == kind
        sheet = np.asarray(image.convert("RGB"))
    width, height, top = 239, 160, 2 * MARGIN + 18
    assert sheet.shape[1] == FRAMES * (width + MARGIN) + MARGIN
    for number in range(FRAMES):
        left = MARGIN + number * (width + MARGIN)
        column = sheet[top : top + 2 * height, left : left + width]
        assert abs(column[8 : height - 8, 8:-8].astype(int) - 128).max() < 8
        overlay = column[height + 8 :]
        assert (overlay.max() > 180) == (number == 2)
    assert abs(draw_sheet(explanation).astype(int) - sheet).mean() < 2


def test_a_sheet_of_many_frames_has_some_of_them(explanation):
    many = replace(
        explanation,
        heat=explanation.heat.repeat(20, axis=0),
        seconds=np.arange(100.0),
        frames=explanation.frames.repeat(20, axis=0),
    )
    assert draw_sheet(many).shape[1] == 8 * (239 + MARGIN) + MARGIN


def test_the_numbers_are_kept(explanation, tmp_path):
    write_explanation(tmp_path / "numbers.npz", explanation)
    with np.load(tmp_path / "numbers.npz") as numbers:
        for name in ("heat", "seconds", "frames"):
            np.testing.assert_array_equal(numbers[name], getattr(explanation, name))
        assert (str(numbers["label"]), float(numbers["score"]), str(numbers["method"])) == ("zebra", 0.75, "rollout")


def test_the_curve_is_high_where_a_frame_is_hot(explanation):
    picture = draw_film(explanation)[0][-58:].astype(int)
    is_curve = (picture[..., 0] > 200) & (picture[..., 2] < 140)
    heights = [np.nonzero(is_curve[:, column])[0].min() for column in np.nonzero(is_curve.any(0))[0]]
    assert np.argmin(heights) == pytest.approx(len(heights) / 2, abs=5)
    assert max(heights) - min(heights) > 35


@pytest.mark.parametrize(
    "change",
    [
        {"label": "a label that goes on and on " * 20},
        {"label": "Zebra\n斑馬 \ud800"},
        {"heat": np.zeros((FRAMES, 4, 6), np.float32)},
        {"seconds": np.zeros(FRAMES)},
        {"frames": np.full((FRAMES, 600, 7, 3), 128, np.uint8)},
    ],
    ids=["long", "foreign", "cold", "still", "narrow"],
)
def test_whatever_there_is_to_show_is_drawn(explanation, change):
    changed = replace(explanation, **change)
    pictures = draw_film(changed)
    assert len(pictures) == FRAMES and all(side % 2 == 0 for side in pictures[0].shape[:2])
    assert draw_sheet(changed).ndim == 3


def test_a_single_frame_is_drawn(explanation):
    arrays = {name: getattr(explanation, name)[2:3] for name in ("heat", "seconds", "frames")}
    assert len(draw_film(replace(explanation, **arrays))) == 1


@pytest.mark.parametrize(
    ("seconds", "rate"), [([0.0, 0.25, 0.5], 4), ([0.0, 10.0], 2), ([0.0, 0.01, 0.02], 10), ([3.0], 10)]
)
def test_a_film_keeps_the_pace_of_the_video_as_far_as_eyes_do(seconds, rate):
    assert find_frame_rate(np.array(seconds)) == rate


def test_colors_grow_lighter_evenly():
    colors = color_heat(np.linspace(0, 1, 11))
    assert colors.dtype == np.uint8 and colors[0].tolist() == [0, 0, 0] and colors[-1].tolist() == [255, 255, 255]
    lightness = colors @ [0.30, 0.59, 0.11]
    np.testing.assert_allclose(lightness, np.linspace(0, 255, 11), atol=6)


def test_what_cannot_be_written_is_refused(explanation, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for name, message in (
        ("film.avi", r"expected a suffix among \.mp4, \.gif, \.png, \.jpg, \.npz, got \.avi"),
        ("film", "got none"),
        ("folder.png", "expected a file, got a folder"),
        ("file/film.png", "expected a folder"),
    ):
        with pytest.raises(OutputError, match=message):
            check_picture(tmp_path / name)
        with pytest.raises(OutputError, match=message):
            write_explanation(tmp_path / name, explanation)
