"""The views of a video: clips, crops, scales and windows, out of one pass over its frames."""

import pickle

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video

from fal_hf import FALVideoProcessor, VideoError, read_frames
from fal_hf.labeling.views import PAPER_SCALES, ViewPlan, ViewReader, Views, three_crops
from fal_hf.model import video_source
from fal_hf.model.video_file import VideoFile
from fal_hf.model.video_info import Stretch

PATCH = 4
WIDTH, HEIGHT = 96, 48


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return write_video(folder / "moving.mp4", moving_frames(60, height=HEIGHT, width=WIDTH))


def make_processor(**options) -> FALVideoProcessor:
    return FALVideoProcessor(
        **{"num_frames": 4, "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, **options}
    )


def make_reader(processor=None, *, batch_size=8, **views) -> ViewReader:
    return ViewReader(processor or make_processor(), Views(**views), patch_size=PATCH, batch_size=batch_size)


def planned(reader, video, **stretch) -> ViewPlan:
    with reader.open(video) as file:
        return reader.plan(file, Stretch(**stretch))


def batches_of(reader, video, **stretch) -> list[list[np.ndarray]]:
    with reader.open(video) as file:
        return list(reader.read(file, reader.plan(file, Stretch(**stretch))))


def all_batches(reader, video, **stretch) -> list[np.ndarray]:
    """All clips of a video, one array (clips, crops, T, C, H, W) a scale."""
    return [np.concatenate(scale) for scale in zip(*batches_of(reader, video, **stretch), strict=True)]


@pytest.mark.parametrize(
    "sampling", [{}, {"frame_interval_seconds": 0.1}, {"frame_stride": 3}, {"start_seconds": 1.0}, {"fps": 4}]
)
@pytest.mark.parametrize("num_clips", [1, 3, 10])
def test_clips_are_those_of_the_processor(video, sampling, num_clips):
    processor = make_processor(**sampling)
    (pixels,) = all_batches(make_reader(processor, num_clips=num_clips), video)
    clips = [clip.frames for clip in processor.sample_clips(video, num_clips=num_clips)]
    expected = processor(clips, do_sample_frames=False, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(pixels[:, 0], expected)


def test_clips_come_in_batches_of_at_most_the_size_asked_for(video):
    batches = batches_of(make_reader(num_clips=5, batch_size=2), video)
    assert [len(scale) for batch in batches for scale in batch] == [2, 2, 1]


def test_all_views_come_out_of_one_pass(video, monkeypatch):
    passes, opened = [], []
    frames_at, prepare = VideoFile.frames_at, video_source.VideoSource.__init__
    monkeypatch.setattr(
        VideoFile, "frames_at", lambda self, seconds: passes.append(seconds) or frames_at(self, seconds)
    )
    monkeypatch.setattr(
        video_source.VideoSource, "__init__", lambda self, *a, **k: opened.append(self) or prepare(self, *a, **k)
    )
    pixels = all_batches(make_reader(num_clips=3, num_crops=3, scales=PAPER_SCALES), video)
    assert [scale.shape[:4] for scale in pixels] == [(3, 3, 4, 3)] * 5
    (seconds,) = passes
    assert len(seconds) == 12 and (np.diff(seconds) > 0).all()
    assert len(opened) == 1


# ---- crops and scales ----


@pytest.mark.parametrize(("height", "width"), [(16, 29), (29, 16), (16, 16), (20, 31)])
def test_the_middle_one_of_three_crops_is_the_processors(height, width):
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    processor = make_processor(do_resize=False)
    pixels = processor(frames, do_sample_frames=False, do_center_crop=False, return_tensors="pt")["pixel_values"][0]
    crops = three_crops(pixels, height=16, width=16)
    expected = processor(frames, do_sample_frames=False, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(crops[:, 1], expected, rtol=0, atol=0)
    assert crops.shape == (2, 3, 3, 16, 16)


@pytest.mark.parametrize("turned", [False, True])
def test_three_crops_reach_from_one_end_of_the_longer_side_to_the_other(turned):
    frames = torch.arange(40.0).expand(1, 1, 16, 40)
    crops = three_crops(frames.mT if turned else frames, height=16, width=16)
    first = (crops.mT if turned else crops)[0, :, 0, 0]
    assert first[:, 0].tolist() == [0, 12, 24] and first[:, -1].tolist() == [15, 27, 39]


def test_frames_smaller_than_a_crop_have_no_three_crops():
    with pytest.raises(ValueError, match=r"at least 16 x 16 pixels .*, got 40 x 12"):
        three_crops(torch.zeros(1, 3, 12, 40), height=16, width=16)


def test_scales_are_other_resolutions_of_the_same_picture_in_whole_patches(video):
    processor = make_processor(size={"shortest_edge": 24})
    pixels = all_batches(make_reader(processor, scales=(0.6, 1.0, 1.4)), video)
    assert [scale.shape[-2:] for scale in pixels] == [(8, 8), (16, 16), (24, 24)]
    clips = [clip.frames for clip in processor.sample_clips(video)]
    for scale, edge in zip(pixels, (8, 16, 24), strict=True):
        sizes = {"size": {"shortest_edge": edge * 3 // 2}, "crop_size": {"height": edge, "width": edge}}
        expected = processor(clips, do_sample_frames=False, return_tensors="np", **sizes)["pixel_values"]
        np.testing.assert_array_equal(scale[:, 0], expected)


def test_frames_that_are_not_cropped_are_scaled_as_a_whole(video):
    processor = make_processor(do_center_crop=False, size={"height": 16, "width": 20})
    (pixels,) = all_batches(make_reader(processor, scales=(1.4,)), video)
    assert pixels.shape[-2:] == (24, 28)
    with pytest.raises(ValueError, match="do_center_crop=False"):
        make_reader(processor, num_crops=3)


# ---- windows ----


def test_windows_are_sampled_like_videos_of_their_own(video):
    processor = make_processor()
    reader = make_reader(processor, windows=True, window_seconds=0.8, hop_seconds=0.4, num_clips=2)
    clips = planned(reader, video)
    assert clips.layout.windows.starts.tolist() == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6])
    pixels = all_batches(reader, video)[0][:, 0]
    # Twice four midpoints of eighths of 0.8 s, dealt out to two clips.
    offsets = 0.05 + 0.1 * np.arange(8).reshape(4, 2).T
    instants = (clips.layout.windows.starts[:, None, None] + offsets).reshape(10, 4)
    frames = [read_frames(video, seconds=clip).frames for clip in instants]
    expected = processor(frames, do_sample_frames=False, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(pixels, expected)


def test_a_window_lasts_as_long_as_a_clip_where_the_checkpoint_says_how_long_that_is(video):
    clips = planned(make_reader(make_processor(frame_interval_seconds=0.2), windows=True), video)
    assert clips.layout.windows.seconds == pytest.approx(0.8)
    assert clips.layout.windows.starts.tolist() == pytest.approx([0.0, 0.8, 1.6])
    clips = planned(make_reader(make_processor(frame_stride=5), windows=True), video)
    assert clips.layout.windows.seconds == pytest.approx(0.8)


def test_a_video_shorter_than_a_window_is_one_window(video):
    clips = planned(make_reader(windows=True), video)
    assert clips.layout.windows.starts.tolist() == [0.0] and clips.layout.windows.seconds == pytest.approx(2.4)
    assert [batch[0].shape[0] for batch in batches_of(make_reader(windows=True), video)] == [1]


def test_windows_begin_where_the_sampling_begins(video):
    clips = planned(make_reader(make_processor(start_seconds=1.0), windows=True, window_seconds=0.5), video)
    assert clips.layout.windows.starts.tolist() == pytest.approx([1.0, 1.5, 1.9])


# ---- stretches ----


def test_a_stretch_is_read_like_a_video_of_its_own(video):
    processor = make_processor()
    (pixels,) = all_batches(make_reader(processor, num_clips=2), video, start_seconds=0.8, end_seconds=1.6)
    # Midpoints of eighths of 0.8 s, dealt out to two clips.
    instants = 0.85 + 0.1 * np.arange(8).reshape(4, 2).T
    frames = [read_frames(video, seconds=clip).frames for clip in instants]
    expected = processor(frames, do_sample_frames=False, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(pixels[:, 0], expected)


def test_the_windows_of_a_stretch_tile_it_in_the_videos_own_time(video):
    plan = planned(make_reader(windows=True, window_seconds=0.4), video, start_seconds=1.0, end_seconds=2.0)
    assert plan.layout.windows.starts.tolist() == pytest.approx([1.0, 1.4, 1.6])
    assert plan.layout.duration_seconds == pytest.approx(1.0)
    assert plan.clips.positions.min() > 1.0 and plan.clips.positions.max() < 2.0


def test_a_stretch_ends_with_the_video_and_must_begin_within_it(video):
    assert planned(make_reader(), video, start_seconds=2.0, end_seconds=9.0).layout.duration_seconds == pytest.approx(
        0.4
    )
    with pytest.raises(VideoError, match=r"moving\.mp4: ends at 2\.400 s, the clip begins at 3\.0 s"):
        planned(make_reader(), video, start_seconds=3.0)


# ---- the rest ----


def test_a_reader_can_be_sent_to_another_process(video):
    reader = make_reader(num_clips=2, scales=(1.0, 1.4))
    for own, sent in zip(
        all_batches(reader, video), all_batches(pickle.loads(pickle.dumps(reader)), video), strict=True
    ):
        np.testing.assert_array_equal(own, sent)


def test_a_clip_must_not_repeat_frames_where_the_checkpoint_says_so(video):
    reader = make_reader(make_processor(short_clip="error", frame_interval_seconds=0.01), num_clips=1)
    with pytest.raises(VideoError, match=r"moving\.mp4.*short_clip"):
        batches_of(reader, video)


def test_a_start_behind_the_end_names_the_video(video):
    with pytest.raises(VideoError, match=r"moving\.mp4: ends at 2\.400 s"):
        planned(make_reader(make_processor(start_seconds=9.0)), video)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clips": 0}, "num_clips"),
        ({"num_crops": 2}, "num_crops"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, -1.0)}, "scales"),
        ({"window_seconds": 1.0}, "windows=True"),
        ({"windows": True, "window_seconds": 1.0, "hop_seconds": 2.0}, "hop_seconds"),
        ({"windows": True, "window_seconds": float("nan")}, "window_seconds"),
    ],
)
def test_wrong_views_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=f"{message}.*expected|expected.*{message}"):
        Views(**options)


def test_a_wrong_window_is_refused_with_the_videos_name(video):
    """Where the length is the checkpoint's in frames, only a video's plan tells."""
    reader = make_reader(make_processor(frame_stride=5), windows=True, hop_seconds=2.0)
    with pytest.raises(VideoError, match=r"moving\.mp4: hop_seconds: expected at most window_seconds, 0\.8, got 2\.0"):
        planned(reader, video)


@pytest.mark.parametrize(("sampling", "seconds"), [({"frame_interval_seconds": 0.25}, "1"), ({}, "10")])
def test_hops_beyond_a_checkpoints_own_window_are_refused_at_once(sampling, seconds):
    processor = make_processor(**sampling)
    with pytest.raises(
        ValueError, match=rf"hop_seconds: expected at most the length of a window, {seconds} here, got 12"
    ):
        make_reader(processor, windows=True, hop_seconds=12.0)
    make_reader(processor, windows=True, hop_seconds=float(seconds))
    make_reader(processor, windows=True, hop_seconds=12.0, window_seconds=12.0)


# ---- pictures for people ----

PROCESSORS = {
    "crop": {},
    "squeezed": {"size": {"height": 16, "width": 24}, "do_center_crop": False},
    "whole": {"do_center_crop": False},
    "own pixels": {"do_resize": False, "crop_size": {"height": 32, "width": 40}},
    "BGR": {"do_flip_channel_order": True},
}


@pytest.mark.parametrize(
    ("options", "shape"),
    [*zip(PROCESSORS.values(), [(48, 48), (48, 72), (48, 96), (32, 40), (48, 48)], strict=True)],
    ids=list(PROCESSORS),
)
def test_a_picture_shows_what_the_model_sees_in_the_video_s_own_pixels(video, options, shape):
    reader = make_reader(make_processor(**options))
    with reader.open(video) as file:
        plan = reader.plan(file)
        (clip,) = reader.read_pictured(file, plan)
        ((expected,),) = reader.read(file, plan)
    np.testing.assert_array_equal(reader.stack([clip])[0], expected)
    for frame, pixels in zip(clip, expected[0, 0], strict=True):
        assert frame.picture.shape == (*shape, 3) and frame.picture.dtype == np.uint8
        seen = (pixels * 0.225 + 0.45).transpose(1, 2, 0) * 255
        seen = seen[..., ::-1] if "do_flip_channel_order" in options else seen
        rows, columns = (side // own for side, own in zip(shape, seen.shape, strict=False))
        shrunk = frame.picture.reshape(seen.shape[0], rows, seen.shape[1], columns, 3).mean(axis=(1, 3))
        assert abs(shrunk - seen).mean() < 8  # filters differ, and another place by 30


def test_a_picture_has_no_more_pixels_than_people_need_and_no_fewer_than_the_model_sees():
    reader = make_reader(make_processor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}))
    assert reader.make_picture(np.zeros((2000, 3000, 3), np.uint8)).shape == (480, 480, 3)
    assert reader.make_picture(np.zeros((20, 30, 3), np.uint8)).shape == (64, 64, 3)
    wide = make_reader(make_processor(do_center_crop=False))
    height, width = wide.make_picture(np.zeros((400, 4000, 3), np.uint8)).shape[:2]
    assert 0.9 * 480 * 480 < height * width < 1.1 * 480 * 480 and width == 10 * height
