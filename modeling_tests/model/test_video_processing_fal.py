"""The video processor: every form of a video, which frames make a clip, and pixels against a naive reference."""

import io
import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from media_files import moving_frames, write_video
from PIL import Image

from fal_hf.model.image_processing_fal import FALImageProcessor
from fal_hf.model.video_file import VideoError, VideoFile, probe, read_frames
from fal_hf.model.video_processing_fal import FALVideoMetadata, FALVideoProcessor
from fal_hf.model.video_source import VideoSource

NUM_FRAMES_IN_FILE, FRAME_RATE = 40, 10


@pytest.fixture(scope="module")
def video_file(tmp_path_factory) -> Path:
    """Four seconds at 10 frames a second; frame i is gray of level 5 * i."""
    path = tmp_path_factory.mktemp("videos") / "gray steps.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 48, 32, "yuv420p", 4_000_000
        for number in range(NUM_FRAMES_IN_FILE):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 5 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def processor() -> FALVideoProcessor:
    return FALVideoProcessor(size=16, crop_size=16)


def numbered_frames(num_frames: int, height: int = 16, width: int = 16) -> np.ndarray:
    """(T, height, width, 3) uint8, the value of a frame being its number."""
    return np.arange(num_frames, dtype=np.uint8)[:, None, None, None].repeat(height, 1).repeat(width, 2).repeat(3, 3)


def frame_numbers(processor, videos, *, step: int = 1, **kwargs) -> list[list[int]]:
    """Which frames of numbered videos end up in the pixel values, read from the pixels."""
    kwargs = {"do_normalize": False, "return_tensors": "pt", **kwargs}
    pixels = processor(videos, **kwargs)["pixel_values"]
    return (pixels.mean((2, 3, 4)) * 255 / step).round().int().tolist()


def pixels_of(processor, videos, **kwargs) -> torch.Tensor:
    return processor(videos, return_tensors="pt", **kwargs)["pixel_values"]


# ---- forms of input ----


def test_a_file_is_taken_as_path_string_bytes_or_file_object(processor, video_file):
    expected = pixels_of(processor, str(video_file))
    assert expected.shape == (1, 8, 3, 16, 16)
    assert expected.dtype == torch.float32
    data = video_file.read_bytes()
    with open(video_file, "rb") as opened:
        for form in (video_file, data, bytearray(data), io.BytesIO(data), opened, [video_file], [[str(video_file)]]):
            assert torch.equal(pixels_of(processor, form), expected), type(form)


def test_torchcodec_is_not_needed(processor, video_file):
    assert "torchcodec" not in sys.modules
    assert pixels_of(processor, str(video_file)).shape == (1, 8, 3, 16, 16)


def test_files_and_frames_of_all_kinds_share_a_batch(processor, video_file):
    last = np.random.default_rng(0).integers(0, 256, (8, 20, 30, 3), dtype=np.uint8)
    first = torch.from_numpy(last[:, :18].transpose(0, 3, 1, 2).copy())
    videos = [
        str(video_file),
        last,
        first,
        [Image.fromarray(frame) for frame in last],
        list(last / 255),
        first.float(),
        last[..., 0, None],
        [[last], [first]],
    ]
    flat = [*videos[:-1], last, first]
    batch = pixels_of(processor, videos)
    assert torch.equal(batch, torch.cat([pixels_of(processor, [video]) for video in flat]))
    torch.testing.assert_close(batch[1], batch[4], atol=0.02, rtol=0)


def test_layouts_of_a_batch_are_decided_clip_by_clip(processor):
    last = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    first = np.ascontiguousarray(last.transpose(0, 3, 1, 2))
    for videos in ([last, first], [first, last], [list(first), list(last)], torch.from_numpy(np.stack([last, last]))):
        batch = pixels_of(processor, videos)
        assert torch.equal(batch[0], batch[1])
    expected = (torch.from_numpy(first).float() / 255 - 0.45) / 0.225
    torch.testing.assert_close(batch[0], expected, atol=1e-5, rtol=0)


def test_a_flat_list_of_frames_is_one_clip(processor):
    frames = [Image.fromarray(frame) for frame in numbered_frames(8)]
    assert frame_numbers(processor, frames) == [list(range(8))]
    assert frame_numbers(processor, tuple(frames)) == [list(range(8))]
    assert frame_numbers(processor, [frames, frames[::-1]]) == [list(range(8)), list(range(7, -1, -1))]
    assert frame_numbers(processor, frames[3]) == [[3] * 8]


def test_frames_in_0_to_1_are_not_scaled_twice(processor):
    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    expected = pixels_of(processor, frames)
    for floats in (frames / 255, torch.from_numpy(frames).half() / 255, frames.astype(np.float32)):
        torch.testing.assert_close(pixels_of(processor, floats), expected, atol=5e-3, rtol=0)


def test_pixels_are_those_of_the_image_processor(media):
    path = media / "clips" / "bikes.mp4"
    clip = FALVideoProcessor().sample_clips(path)[0]
    expected = FALImageProcessor()(clip.frames, return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels_of(FALVideoProcessor(), path), expected)


def test_alpha_and_grayscale_become_rgb(processor):
    rgba = np.zeros((8, 16, 16, 4), np.uint8)  # black, fully transparent: white
    assert frame_numbers(processor, rgba) == [[255] * 8]
    assert frame_numbers(processor, numbered_frames(8)[..., 0, None]) == [list(range(8))]
    kept = pixels_of(processor, rgba, do_convert_rgb=False, image_mean=0.0, image_std=1.0)
    assert kept.shape == (1, 8, 4, 16, 16)


def test_channels_are_flipped_to_bgr_on_demand(processor):
    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    assert torch.equal(pixels_of(processor, frames, do_flip_channel_order=True), pixels_of(processor, frames).flip(2))


# ---- which frames ----


def test_frames_of_a_file_are_spread_evenly_by_default(processor, video_file):
    expected = [[int((position + 0.5) * NUM_FRAMES_IN_FILE / 8) for position in range(8)]]
    assert frame_numbers(processor, video_file, step=5) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_frames": 4}, [5, 15, 25, 35]),
        ({"num_frames": 1}, [20]),
        ({"frame_stride": 3}, [0, 3, 6, 9, 12, 15, 18, 21]),
        ({"frame_stride": 2, "start_seconds": 1.0}, [10, 12, 14, 16, 18, 20, 22, 24]),
        ({"frame_interval_seconds": 0.5}, [0, 5, 10, 15, 20, 25, 30, 35]),
        ({"frame_interval_seconds": 0.25, "num_frames": 5}, [0, 2, 5, 7, 10]),
        ({"frame_interval_seconds": 1, "start_seconds": 0.5, "num_frames": 3}, [5, 15, 25]),
        ({"start_seconds": 2, "num_frames": 4}, [22, 27, 32, 37]),
        ({"fps": 1}, [5, 15, 25, 35]),
        # held at the end
        ({"frame_stride": 10, "num_frames": 6}, [0, 10, 20, 30, 39, 39]),
        ({"frame_interval_seconds": 1.5, "num_frames": 4}, [0, 15, 30, 39]),
    ],
    ids=str,
)
def test_files_and_given_frames_are_sampled_alike(processor, video_file, options, expected):
    assert frame_numbers(processor, video_file, step=5, **options) == [expected]
    known = {"total_num_frames": NUM_FRAMES_IN_FILE, "fps": FRAME_RATE}
    given = numbered_frames(NUM_FRAMES_IN_FILE)
    for frames in (given, list(given), torch.from_numpy(given)):
        assert frame_numbers(processor, frames, video_metadata=known, **options) == [expected]


def test_a_clip_of_exactly_num_frames_is_taken_as_it_is(video_file):
    processor = FALVideoProcessor(size=16, crop_size=16, frame_stride=4)
    assert frame_numbers(processor, numbered_frames(8)) == [list(range(8))]
    assert frame_numbers(processor, numbered_frames(8), frame_stride=2) == [[0, 2, 4, 6, 7, 7, 7, 7]]
    assert frame_numbers(processor, numbered_frames(40)) == [list(range(0, 32, 4))]


def test_all_frames_are_taken_without_sampling(processor, video_file):
    assert frame_numbers(processor, numbered_frames(11), do_sample_frames=False, num_frames=3) == [list(range(11))]
    expected = [list(range(NUM_FRAMES_IN_FILE))]
    assert frame_numbers(processor, video_file, step=5, do_sample_frames=False) == expected


def test_options_of_a_call_replace_configured_ones_they_contradict(video_file):
    strided = FALVideoProcessor(size=16, crop_size=16, frame_stride=2)
    assert frame_numbers(strided, video_file, step=5, frame_interval_seconds=0.3)[0][:3] == [0, 3, 6]
    assert frame_numbers(strided, video_file, step=5, frame_stride=None) == [[2, 7, 12, 17, 22, 27, 32, 37]]
    assert len(frame_numbers(strided, video_file, step=5, fps=5)[0]) == 20
    paced = FALVideoProcessor(size=16, crop_size=16, fps=5)
    assert len(frame_numbers(paced, video_file)[0]) == 20
    assert frame_numbers(paced, video_file, step=5, num_frames=2) == [[10, 30]]


@pytest.mark.parametrize("num_frames", [1, 2, 5, 7])
def test_a_short_video_gives_all_frames_in_order_then_holds_the_last(processor, num_frames):
    expected = [min(position, num_frames - 1) for position in range(8)]
    assert frame_numbers(processor, numbered_frames(num_frames)) == [expected]


def test_a_short_file_holds_the_last_frame(processor, video_file):
    expected = [min(position, 39) for position in range(50)]
    assert frame_numbers(processor, video_file, step=5, num_frames=50) == [expected]
    expected = [min(35 + position, 39) for position in range(8)]
    assert frame_numbers(processor, video_file, step=5, start_seconds=3.5) == [expected]


def test_short_videos_are_refused_on_demand(video_file):
    processor = FALVideoProcessor(short_clip="error")
    with pytest.raises(ValueError, match=r'too short for 8 different frames.*short_clip` is "error"'):
        processor(numbered_frames(5))
    with pytest.raises(VideoError, match=r"gray steps\.mp4: too short for 41 different frames"):
        processor(video_file, num_frames=41)
    assert processor(video_file, num_frames=40)


@pytest.mark.parametrize("name", ["video_90.mov", "testsrc2_mpeg4.mp4", "bitmap.mp4", "unordered.mov"])
def test_real_files_of_a_few_frames_make_whole_clips(processor, media, name):
    batch = processor(media / "odd" / name, return_tensors="pt", return_metadata=True)
    assert batch["pixel_values"].shape == (1, 8, 3, 16, 16)
    seconds = batch["video_metadata"][0].frames_seconds
    assert seconds == sorted(seconds)
    assert len(set(seconds)) == min(8, probe(media / "odd" / name).num_frames)


def test_every_real_video_makes_a_clip_of_the_frames_on_display(processor, media):
    for path in sorted([*(media / "clips").iterdir(), *(media / "odd").iterdir()]):
        batch = processor(path, return_tensors="pt", return_metadata=True)
        assert batch["pixel_values"].shape == (1, 8, 3, 16, 16), path.name
        everything = read_frames(path)
        middles = (np.arange(8) + 0.5) * probe(path).duration_seconds / 8
        shown = np.searchsorted(everything.seconds, middles + 1e-6, side="right") - 1
        if len(everything.frames) < 8:
            shown = np.minimum(np.arange(8), len(everything.frames) - 1)
        expected = pixels_of(processor, everything.frames[shown])
        assert torch.equal(batch["pixel_values"], expected), path.name
        numbers = batch["video_metadata"][0].frames_indices
        assert numbers is None or numbers == shown.tolist(), path.name


# ---- several clips ----


def test_clips_are_decoded_in_one_pass(processor, video_file, monkeypatch):
    requests, opened = [], []
    read, prepare = VideoFile.read, VideoSource.__init__
    monkeypatch.setattr(VideoFile, "read", lambda self, **options: requests.append(options) or read(self, **options))
    monkeypatch.setattr(VideoSource, "__init__", lambda self, *a, **k: opened.append(self) or prepare(self, *a, **k))
    clips = processor.sample_clips(video_file, num_clips=5)
    assert len(requests) == len(opened) == 1
    assert len(clips) == 5
    assert all(clip.frames.shape == (8, 32, 48, 3) and clip.frames.dtype == np.uint8 for clip in clips)


def test_evenly_spread_clips_interleave(processor, video_file):
    clips = processor.sample_clips(video_file, num_clips=5)
    numbers = np.array([clip.metadata.frames_indices for clip in clips])
    assert sorted(numbers.ravel()) == list(range(40))
    assert numbers[0].tolist() == list(range(0, 40, 5))
    given = processor.sample_clips(numbered_frames(40), num_clips=5)
    assert np.array_equal(numbers, [clip.metadata.frames_indices for clip in given])


@pytest.mark.parametrize("options", [{"frame_stride": 2}, {"frame_interval_seconds": 0.2}])
def test_clips_of_a_fixed_spacing_begin_at_even_distances(processor, video_file, options):
    first, middle, last = processor.sample_clips(video_file, num_clips=3, **options)
    assert first.metadata.frames_indices == list(range(0, 16, 2))
    assert middle.metadata.frames_indices[0] == 12
    assert last.metadata.frames_indices[-1] in (38, 39)


def test_a_call_with_sampled_clips_gives_their_pixels(processor, video_file):
    clips = processor.sample_clips(video_file, num_clips=3, num_frames=4)
    batch = pixels_of(processor, [clip.frames for clip in clips], do_sample_frames=False)
    assert batch.shape == (3, 4, 3, 16, 16)
    (alone,) = processor.sample_clips(video_file)
    assert torch.equal(pixels_of(processor, alone.frames), pixels_of(processor, video_file))


def test_sample_clips_takes_the_configured_number_of_clips(video_file):
    processor = FALVideoProcessor(num_clips=3, size=16, crop_size=16)
    assert len(processor.sample_clips(video_file)) == 3
    assert pixels_of(processor, video_file).shape == (1, 8, 3, 16, 16)
    with pytest.raises(ValueError, match="Expected one video, got 2"):
        processor.sample_clips([video_file, video_file])


# ---- metadata ----


def test_metadata_tell_numbers_and_seconds(processor, video_file):
    batch = processor([video_file, numbered_frames(16)], return_metadata=True)
    of_file, of_frames = batch["video_metadata"]
    assert isinstance(of_file, FALVideoMetadata)
    assert of_file.frames_indices == [2, 7, 12, 17, 22, 27, 32, 37]
    assert of_file.timestamps == pytest.approx([0.2, 0.7, 1.2, 1.7, 2.2, 2.7, 3.2, 3.7])
    assert (of_file.total_num_frames, of_file.fps, of_file.width, of_file.height) == (40, 10.0, 48, 32)
    assert (of_file.duration, of_file.video_backend) == (pytest.approx(4.0), "pyav")
    assert of_frames.frames_indices == [1, 3, 5, 7, 9, 11, 13, 15]
    assert of_frames.frames_seconds is None
    assert "video_metadata" not in processor(video_file)


def test_given_metadata_are_carried_on(processor):
    known = {"total_num_frames": 80, "fps": 10, "frames_indices": list(range(0, 80, 5))}
    metadata = processor(numbered_frames(16), video_metadata=[[known]], return_metadata=True)["video_metadata"][0]
    assert metadata.frames_indices == list(range(5, 80, 10))
    assert metadata.timestamps == pytest.approx([number / 10 for number in range(5, 80, 10)])
    with pytest.raises(ValueError, match="one entry of `video_metadata` a video: 2, got 1"):
        processor([numbered_frames(8)] * 2, video_metadata=known)


# ---- settings ----


def test_settings_survive_a_round_trip(tmp_path):
    options = {"num_frames": 5, "frame_stride": 3, "start_seconds": 1.5, "num_clips": 4, "short_clip": "error"}
    processor = FALVideoProcessor(**options, size=96, crop_size=80, do_flip_channel_order=True)
    processor.save_pretrained(tmp_path)
    again = FALVideoProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    assert {name: getattr(again, name) for name in options} == options
    assert FALVideoProcessor.from_pretrained(tmp_path, num_frames=7).num_frames == 7
    assert "frame_interval_seconds" not in json.loads((tmp_path / "video_preprocessor_config.json").read_text())


def test_an_image_processor_is_saved_beside_unless_there_is_one(tmp_path):
    FALVideoProcessor(size=96, crop_size=80).save_pretrained(tmp_path)
    beside = FALImageProcessor.from_pretrained(tmp_path)
    assert (beside.size, beside.crop_size) == ({"shortest_edge": 96}, {"height": 80, "width": 80})
    FALVideoProcessor(size=32, crop_size=32).save_pretrained(tmp_path)
    assert FALImageProcessor.from_pretrained(tmp_path).size == {"shortest_edge": 96}


def test_the_image_processor_of_a_timesformer_folder_suffices(tmp_path, video_file):
    old = {
        "image_processor_type": "VideoMAEImageProcessor",
        "image_mean": [0.1, 0.2, 0.3],
        "size": {"shortest_edge": 20},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**old, "crop_size": {"height": 18, "width": 18}}))
    assert FALVideoProcessor.from_pretrained(tmp_path).num_frames == 8
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "timesformer", "num_frames": 12}))
    processor = FALVideoProcessor.from_pretrained(tmp_path)
    assert processor.image_mean == (0.1, 0.2, 0.3)
    assert pixels_of(processor, video_file).shape == (1, 12, 3, 18, 18)
    from_file = FALVideoProcessor.from_pretrained(tmp_path / "preprocessor_config.json")
    assert from_file.size == {"shortest_edge": 20}


def test_a_frame_rate_works_beside_the_configured_number_of_frames(processor):
    known = {"total_num_frames": 8, "fps": 4, "duration": 2.0}
    assert pixels_of(processor, numbered_frames(8), fps=3, video_metadata=known).shape[1] == 6
    with pytest.raises(ValueError, match="`fps` needs the frame rate"):
        processor(numbered_frames(8), fps=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 2, "frame_stride": 3}, "fps and frame_stride"),
        ({"frame_stride": 2, "frame_interval_seconds": 0.1}, "frame_stride and frame_interval_seconds"),
        ({"fps": 2, "num_frames": 3}, "exclude one another"),
        ({"frame_stride": 0}, "`frame_stride` must be positive"),
        ({"frame_interval_seconds": float("nan")}, "`frame_interval_seconds` must be positive"),
        ({"num_frames": 0}, "`num_frames` must be positive"),
        ({"start_seconds": -1.0}, "`start_seconds` must not be negative"),
        ({"start_seconds": 5.0}, "before `start_seconds`"),
        ({"short_clip": "loop"}, "`short_clip` must be"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(processor, video_file, options, message):
    with pytest.raises(ValueError, match=message):
        processor(video_file, **options)


def test_bad_settings_are_refused_at_construction():
    with pytest.raises(ValueError, match="`frame_stride` must be positive"):
        FALVideoProcessor(frame_stride=-1)
    with pytest.raises(ValueError, match="At most one of"):
        FALVideoProcessor(frame_stride=2, fps=3)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"num_clips": "3"}, "num_clips"),
        ({"do_resize": "yes"}, "do_resize"),
        ({"start_seconds": {}}, "start_seconds"),
        ({"image_std": ["a", 0.2, 0.2]}, "image_std"),
        ({"size": {"shortest_edge": "224"}}, "size"),
        ({"crop_size": {"height": 16, "width": ["a"]}}, "crop_size"),
    ],
)
def test_settings_of_another_type_are_refused_at_construction(settings, name):
    with pytest.raises(StrictDataclassError, match=f"'{name}'"):
        FALVideoProcessor(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"shortest_edge": -1}}, "`size` must be at least one pixel"),
        ({"crop_size": {"height": 0, "width": 16}}, "`crop_size` must be at least one pixel"),
        ({"crop_size": {"shortest_edge": 7}}, "`crop_size` must have a height and a width"),
        ({"resample": 10**400}, "`resample` must be one of PIL's numbers"),
        ({"resample": "a"}, "`resample` must be one of PIL's numbers"),
        ({"image_mean": [0.5, 0.5]}, "`image_mean` and `image_std` must be numbers or have one for each channel"),
        ({"image_std": [0.5] * 4}, "`image_mean` and `image_std` must be numbers or have one for each channel"),
    ],
)
def test_pixel_settings_that_cannot_be_are_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        FALVideoProcessor(**settings)


def test_whole_numbers_are_taken_for_floats():
    processor = FALVideoProcessor(image_mean=[0, 0, 0], image_std=1, rescale_factor=1)
    assert processor(numbered_frames(8), return_tensors="pt")["pixel_values"].max() > 1


@pytest.mark.parametrize("text", ["[]", '"settings"', "3"])
def test_a_file_that_holds_no_settings_is_refused_by_name(tmp_path, text):
    (tmp_path / "video_preprocessor_config.json").write_text(text)
    with pytest.raises(
        ValueError, match=f"{tmp_path.name}: expected an object of a video processor's settings, got a"
    ):
        FALVideoProcessor.from_pretrained(tmp_path)


def test_unknown_options_are_refused(processor):
    with pytest.raises(TypeError, match="frames_stride"):
        processor(numbered_frames(8), frames_stride=2)


def test_input_that_is_no_video_is_refused_by_name(processor, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(VideoError, match=r"notes\.mp4"):
        processor(text)
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        processor([str(tmp_path / "missing.mp4")])
    for nothing in ([], None, 3, {"video": 1}):
        with pytest.raises(ValueError, match="Expected frames"):
            processor(nothing)


def test_frames_that_come_irregularly_are_counted_and_timed_as_they_come(tmp_path, processor):
    times = np.cumsum(np.random.default_rng(0).integers(40, 900, 110)).tolist()
    for suffix in (".mkv", ".mp4"):
        path = write_video(tmp_path / f"irregular{suffix}", moving_frames(110), pts=times, time_base=Fraction(1, 1000))
        (clip,) = processor.sample_clips(path, frame_stride=10)
        assert clip.metadata.frames_indices == list(range(0, 10 * processor.num_frames, 10))
        start_seconds = (times[50] - times[0]) / 1000 + 0.01
        (clip,) = processor.sample_clips(path, frame_stride=1, start_seconds=start_seconds)
        assert clip.metadata.frames_indices == list(range(50, 50 + processor.num_frames))
        (clip,) = processor.sample_clips(path, start_seconds=start_seconds)
        assert clip.metadata.frames_indices is None
        assert (
            start_seconds - 1 < clip.metadata.frames_seconds[0] < clip.metadata.frames_seconds[-1] < times[-1] / 1000
        )


def test_an_avi_file_of_a_tick_a_millisecond_starts_where_it_is_asked_to(tmp_path, processor):
    path = write_video(
        tmp_path / "ticks.avi",
        moving_frames(100),
        rate=1000,
        codec="mpeg4",
        pts=[40 * number for number in range(100)],
    )
    (clip,) = processor.sample_clips(path, start_seconds=2)
    assert clip.metadata.frames_seconds[0] == pytest.approx(2 + 2 / processor.num_frames / 2, abs=0.041)
