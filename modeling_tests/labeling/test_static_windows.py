"""Windows of a camera that stands: what counts as no change, and what comes of the windows that are not scored."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video

from fal_hf import FALVideoProcessor, Timeline, VideoLabeler, Views
from fal_hf.labeling.options import STATIC_LEVELS
from fal_hf.labeling.static_windows import ReusedWindow, StaticWindows
from fal_hf.labeling.views import ViewReader

SIDE, PATCH = 16, 4


def make_static(levels: float = STATIC_LEVELS, **options) -> StaticWindows:
    return StaticWindows(FALVideoProcessor(**options), levels=levels, patch_size=PATCH)


def window_of(*pictures: np.ndarray, **options) -> list[torch.Tensor]:
    """What the processor makes of uint8 pictures (H, W, 3) at their own size, as frames of one crop."""
    processor = FALVideoProcessor(do_resize=False, do_center_crop=False, **options)
    frames = processor(np.stack(pictures), do_sample_frames=False, return_tensors="pt")["pixel_values"][0]
    return list(frames[:, None])


def picture(*, level: float = 100, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def with_patch(image: np.ndarray, *, row: int, column: int, change: int) -> np.ndarray:
    image = image.copy()
    image[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] += np.uint8(change)
    return image


@pytest.mark.parametrize("options", [{}, {"do_normalize": False}, {"do_rescale": False, "do_normalize": False}])
@pytest.mark.parametrize(("change", "is_static"), [(6, True), (7, False)])
def test_the_patch_that_differs_most_decides_in_levels_of_8_bits(options, change, is_static):
    static = make_static(6.5, **options)
    still = picture()
    assert not static.is_static(window_of(still, still, **options))
    assert static.is_static(window_of(still, still, **options))
    changed = with_patch(still, row=3, column=1, change=change)
    assert static.is_static(window_of(still, changed, **options)) is is_static


def test_a_patch_that_an_edge_cuts_counts_by_the_pixels_that_it_has():
    static = make_static(6.5)
    still = picture(height=18, width=17)
    static.is_static(window_of(still))
    assert not static.is_static(window_of(with_patch(still, row=4, column=4, change=7)))
    assert static.is_static(
        window_of(with_patch(with_patch(still, row=4, column=4, change=7), row=4, column=4, change=1))
    )


def test_noise_of_single_pixels_is_no_change():
    rng = np.random.default_rng(0)
    static = make_static()
    windows = [(picture() + rng.normal(0, 2, (2, SIDE, SIDE, 1))).astype(np.uint8) for _ in range(10)]
    assert [static.is_static(window_of(*window)) for window in windows] == [False] + 9 * [True]
    assert np.abs(windows[0].astype(int) - windows[1]).max() > STATIC_LEVELS


def test_slow_change_adds_up_to_a_change():
    static = make_static(5.5)
    found = [static.is_static(window_of(picture(level=100 + level))) for level in range(0, 20, 2)]
    # By 0, 2 and 4 levels static, by 6 not; then again from there.
    assert found == [False, True, True] * 3 + [False]


def test_a_frame_of_another_size_is_a_change():
    static = make_static()
    static.is_static(window_of(picture()))
    assert not static.is_static(window_of(picture(height=20)))
    assert static.is_static(window_of(picture(height=20)))


# ---- in a video ----


def still_then_moving(rng: np.random.Generator) -> list[np.ndarray]:
    """25 frames a second: 2 s of a picture with grain, 1 s of motion, 2 s of where that ended, with grain."""
    moving = moving_frames(26, height=48, width=64)
    frames = [moving[0]] * 50 + list(moving[:25]) + [moving[25]] * 50
    return [np.clip(frame + rng.normal(0, 2, frame.shape[:2])[..., None], 0, 255).astype(np.uint8) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "camera.mp4"
    return str(write_video(path, still_then_moving(np.random.default_rng(0)), options={"crf": "28"}))


VIEWS = {"windows": True, "window_seconds": 0.5, "hop_seconds": 0.25}


def parts_of(reader: ViewReader, video: str) -> list:
    with reader.open(video) as file:
        return list(reader.read(file, reader.plan(file)))


@pytest.mark.parametrize("num_clips", [1, 3])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.5)])
def test_windows_without_change_are_in_no_batch_whatever_its_size(tiny_checkpoint, video, num_clips, scales):
    processor = FALVideoProcessor.from_pretrained(tiny_checkpoint)
    decided = []
    for batch_size in (1, 2, 8):
        views = Views(**VIEWS, num_clips=num_clips, scales=scales, reuse_static=STATIC_LEVELS)
        parts = parts_of(ViewReader(processor, views, patch_size=PATCH, batch_size=batch_size), video)
        batches = [part for part in parts if not isinstance(part, ReusedWindow)]
        assert all(len(batch) == len(scales) and len(batch[0]) <= batch_size for batch in batches)
        clips = np.concatenate([batch[0] for batch in batches])
        decided.append(([part.number for part in parts if isinstance(part, ReusedWindow)], clips))
    (numbers, clips), *others = decided
    assert len(numbers) >= 8 and len(clips) % num_clips == 0
    assert len(numbers) + len(clips) // num_clips == 19
    for other_numbers, other_clips in others:
        assert other_numbers == numbers
        np.testing.assert_array_equal(other_clips, clips)


def scores_of(windows: Sequence) -> np.ndarray:
    return np.array(
        [[label.score for label in sorted(window.labels, key=lambda label: label.label)] for window in windows]
    )


@pytest.mark.parametrize("num_clips", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_window_without_change_has_the_scores_of_the_last_one_that_was_scored(
    tiny_checkpoint, video, num_clips, batch_size
):
    def labeled(**options):
        views = Views(**VIEWS, num_clips=num_clips, **options)
        labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=views, batch_size=batch_size)
        seen = []
        labeler.model.register_forward_pre_hook(
            lambda model, args, kwargs: seen.append(len(args[0])), with_kwargs=True
        )
        return labeler(video), sum(seen)

    every, num_scored = labeled()
    result, num_left = labeled(reuse_static=STATIC_LEVELS)
    assert num_left == num_scored - num_clips * result.num_reused_windows
    assert (result.num_clips, len(result.windows)) == (every.num_clips, len(every.windows))
    views = Views(**VIEWS, num_clips=num_clips, reuse_static=STATIC_LEVELS)
    parts = parts_of(ViewReader(FALVideoProcessor.from_pretrained(tiny_checkpoint), views, patch_size=PATCH), video)
    reused = [part.number for part in parts if isinstance(part, ReusedWindow)]
    assert len(reused) == result.num_reused_windows
    times = [1 + reused.count(number) for number in range(len(every.windows) - len(reused))]
    scored = np.cumsum([0, *times[:-1]])
    expected = scores_of(every.windows)[np.repeat(scored, times)]
    np.testing.assert_allclose(scores_of(result.windows), expected, atol=1e-6)
    mean = scores_of(result.windows).mean(axis=0)
    np.testing.assert_allclose(scores_of([result])[0], mean, atol=1e-6)
    assert [window.start_seconds for window in result.windows] == [window.start_seconds for window in every.windows]


def test_without_it_nothing_is_said_of_it(tiny_checkpoint, video):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(**VIEWS), timeline=Timeline())
    assert "num_reused_windows" not in labeler(video).to_dict()
