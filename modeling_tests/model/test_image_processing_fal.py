"""The image processors: every form of frames, both backends, against a naive Pillow reference."""

import numpy as np
import pytest
import torch
from PIL import Image

from fal_hf.model.image_processing_fal import FALImageProcessor
from fal_hf.model.image_processing_pil_fal import FALImageProcessorPil
from fal_hf.model.video_processing_fal import FALVideoProcessor

BACKENDS = [FALImageProcessor, FALImageProcessorPil]
ONE_LEVEL = 1 / 255 / 0.225 + 1e-5  # what one step of 8 bits is worth after normalisation
MEAN, STD = 0.45, 0.225

every_processor = pytest.mark.parametrize("processor_class", [*BACKENDS, FALVideoProcessor])
both_backends = pytest.mark.parametrize("processor_class", BACKENDS)


def random_frames(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels(processor, images, **kwargs) -> torch.Tensor:
    return processor(images, return_tensors="pt", **kwargs)["pixel_values"]


def naive_pixels(frames: np.ndarray, *, short_side: int = 224) -> torch.Tensor:
    """Frame by frame with nothing but Pillow: (T, H, W, 3) uint8 to (1, T, 3, short_side, short_side)."""
    done = []
    for frame in frames:
        height, width = frame.shape[:2]
        scale = short_side / min(height, width)
        new_height, new_width = (
            (short_side, int(scale * width)) if height <= width else (int(scale * height), short_side)
        )
        image = Image.fromarray(frame).resize((new_width, new_height), Image.Resampling.BILINEAR)
        top, left = (new_height - short_side) // 2, (new_width - short_side) // 2
        image = image.crop((left, top, left + short_side, top + short_side))
        done.append((np.asarray(image, np.float32) / 255 - MEAN) / STD)
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).unsqueeze(0)


@both_backends
def test_the_snippet_of_the_readme_runs_verbatim(processor_class):
    processor = processor_class()
    video = list(np.random.randn(8, 3, 224, 224))
    inputs = processor(video, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 8, 3, 224, 224)
    # values beyond [0, 1] count as 0 to 255
    expected = (torch.from_numpy(np.stack(video)).float() / 255 - MEAN) / STD
    torch.testing.assert_close(inputs["pixel_values"][0], expected, atol=1e-5, rtol=0)


@both_backends
@pytest.mark.parametrize("size", [(240, 320), (333, 241), (97, 131), (224, 224), (500, 225)])
def test_pixels_agree_with_the_naive_reference(processor_class, size):
    frames = random_frames(3, *size, 3)
    result = pixels(processor_class(), frames)
    difference = (result - naive_pixels(frames)).abs()
    assert result.dtype == torch.float32
    assert difference.max() <= ONE_LEVEL
    assert difference.mean() < ONE_LEVEL / 3


def test_the_backends_have_the_same_defaults():
    assert FALImageProcessor().to_dict() == FALImageProcessorPil().to_dict()


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"do_resize": False},
        {"do_flip_channel_order": True},
        {"size": 64, "crop_size": 72},
        {"do_normalize": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bytes", "scaled floats", "floats"])
def test_the_backends_agree(kwargs, kind):
    frames = random_frames(2, 131, 213, 3)
    images = {"bytes": frames, "scaled floats": frames / 255, "floats": frames * 1.0}[kind]
    torchvision, pil = (pixels(processor_class(), images, **kwargs) for processor_class in BACKENDS)
    assert torchvision.shape == pil.shape
    assert (torchvision - pil).abs().max() <= (ONE_LEVEL if kind == "bytes" else 1e-3)


@both_backends
def test_pil_numpy_and_torch_in_either_layout_give_the_same_pixels(processor_class):
    frames = random_frames(2, 60, 80, 3)
    first = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    forms = {
        "numpy channels last": frames,
        "numpy channels first": first,
        "torch channels last": torch.from_numpy(frames),
        "torch channels first": torch.from_numpy(first),
        "list of PIL": [Image.fromarray(frame) for frame in frames],
        "list of numpy": list(frames),
        "list of torch": list(torch.from_numpy(first)),
        "mixed list": [Image.fromarray(frames[0]), torch.from_numpy(first[1])],
        "tuple": tuple(frames),
        "int64": frames.astype(np.int64),
        "big-endian": frames.astype(">u2"),
        "reversed view": frames[::-1].copy()[::-1],
    }
    processor = processor_class()
    expected = pixels(processor, frames)
    for name, form in forms.items():
        assert torch.equal(pixels(processor, form), expected), name


@both_backends
def test_a_list_of_frames_is_one_clip_and_a_list_of_lists_is_many(processor_class):
    frames = random_frames(4, 40, 50, 3)
    processor = processor_class(size=16, crop_size=16)
    assert pixels(processor, frames[0]).shape == (1, 1, 3, 16, 16)
    assert pixels(processor, list(frames)).shape == (1, 4, 3, 16, 16)
    assert pixels(processor, frames).shape == (1, 4, 3, 16, 16)
    expected = torch.cat([pixels(processor, frames), pixels(processor, frames[::-1].copy())])
    for batch in (
        [list(frames), list(frames[::-1])],
        [frames, frames[::-1]],
        np.stack([frames, frames[::-1]]),
        torch.from_numpy(np.stack([frames, frames[::-1]])),
        [[list(frames)], [frames[::-1]]],
        [list(frames), frames[::-1]],
    ):
        assert torch.equal(pixels(processor, batch), expected)


@both_backends
def test_clips_of_mixed_layouts_and_sizes_come_out_as_each_alone(processor_class):
    processor = processor_class(size=32, crop_size=32)
    last, first = random_frames(2, 40, 64, 3), random_frames(2, 3, 90, 50, seed=1)
    batch = pixels(processor, [last, first])
    assert torch.equal(batch, torch.cat([pixels(processor, last), pixels(processor, first)]))
    one_clip = pixels(processor, [last[0], first[0], last[1]])
    alone = [pixels(processor, frame)[0] for frame in (last[0], first[0], last[1])]
    assert torch.equal(one_clip[0], torch.cat(alone))


@both_backends
def test_floats_in_0_to_1_are_not_scaled_twice(processor_class):
    frames = random_frames(2, 224, 224, 3)
    processor = processor_class()
    expected = pixels(processor, frames)
    for floats in (frames / 255, (frames / 255).astype(np.float32), torch.from_numpy(frames).double() / 255):
        torch.testing.assert_close(pixels(processor, floats), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels(processor, frames.astype(np.float32)), expected, atol=1e-5, rtol=0)


@both_backends
def test_a_dark_frame_is_scaled_as_the_rest_of_its_clip(processor_class):
    clip = np.full((2, 224, 224, 3), 200.0)
    clip[0] = 1.0
    result = pixels(processor_class(), clip)
    assert torch.allclose(result[0, 0], torch.tensor((1 / 255 - MEAN) / STD))
    assert torch.allclose(result[0, 1], torch.tensor((200 / 255 - MEAN) / STD))


@both_backends
def test_grayscale_is_repeated(processor_class):
    gray = random_frames(2, 30, 40, 1)
    processor = processor_class(size=30, crop_size=30)
    expected = pixels(processor, gray.repeat(3, axis=-1))
    flat = list(gray[..., 0])
    for form in (gray, gray.transpose(0, 3, 1, 2), flat, [Image.fromarray(frame) for frame in flat]):
        assert torch.equal(pixels(processor, form), expected)


@both_backends
def test_transparency_is_blended_with_white(processor_class):
    rgba = random_frames(2, 30, 40, 4)
    alpha = rgba[..., 3:] / 255
    blended = np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    processor = processor_class(size=30, crop_size=30)
    expected = pixels(processor, blended)
    pil = [Image.fromarray(frame, mode="RGBA") for frame in rgba]
    for form in (rgba, rgba.transpose(0, 3, 1, 2), rgba / 255, rgba.astype(np.float32), pil):
        torch.testing.assert_close(pixels(processor, form), expected, atol=1.01 * ONE_LEVEL, rtol=0)


@both_backends
def test_palettes_and_booleans_are_read(processor_class):
    processor = processor_class(size=8, crop_size=8)
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert torch.allclose(pixels(processor, red.convert("P")), pixels(processor, red))
    assert torch.allclose(pixels(processor, np.ones((1, 8, 8, 3), bool)), torch.tensor((1 - MEAN) / STD))


@both_backends
def test_channels_are_flipped_to_bgr_on_demand(processor_class):
    frames = random_frames(2, 50, 40, 3)
    straight = pixels(processor_class(), frames)
    assert torch.equal(pixels(processor_class(do_flip_channel_order=True), frames), straight.flip(2))
    assert torch.equal(pixels(processor_class(), frames, do_flip_channel_order=True), straight.flip(2))


@both_backends
def test_grayscale_that_is_kept_has_no_order_of_channels(processor_class):
    gray = random_frames(2, 8, 8, 1)
    processor = processor_class(do_convert_rgb=False, image_mean=0.5, image_std=0.5)
    assert torch.equal(pixels(processor, gray, do_flip_channel_order=True), pixels(processor, gray))


@every_processor
@pytest.mark.parametrize("do_rescale", [True, False])
@pytest.mark.parametrize("do_normalize", [True, False])
def test_pixels_are_float32_whatever_is_done_to_them(processor_class, do_rescale, do_normalize):
    processor = processor_class(do_rescale=do_rescale, do_normalize=do_normalize, size=8, crop_size=8)
    for frames in (random_frames(2, 8, 8, 3), random_frames(2, 8, 8, 3) / 255):
        assert pixels(processor, frames).dtype == torch.float32
    untouched = np.full((8, 8, 8, 3), 200, np.uint8)
    if not (do_rescale or do_normalize):
        assert (pixels(processor, untouched) == 200).all()


@both_backends
@pytest.mark.parametrize(
    ("shape", "channels_first"),
    [((2, 1, 1, 3), False), ((2, 3, 9, 3), True), ((2, 3, 9, 4), True), ((2, 4, 9, 3), False)],
)
def test_three_channels_win_where_the_layout_is_ambiguous(processor_class, shape, channels_first):
    frames = random_frames(*shape)
    kwargs = {"do_resize": False, "do_center_crop": False, "do_normalize": False}
    result = pixels(processor_class(**kwargs), frames)[0]
    expected = torch.from_numpy(frames if channels_first else frames.transpose(0, 3, 1, 2)).float() / 255
    torch.testing.assert_close(result, expected)


@both_backends
def test_the_layout_can_be_given(processor_class):
    frames = random_frames(2, 3, 9, 3)
    kwargs = {"do_resize": False, "do_center_crop": False, "do_normalize": False}
    result = pixels(processor_class(**kwargs), frames, input_data_format="channels_last")
    torch.testing.assert_close(result[0], torch.from_numpy(frames.transpose(0, 3, 1, 2)).float() / 255)


@both_backends
def test_frames_smaller_than_the_crop_are_filled_with_zeros_around(processor_class):
    frames = np.full((1, 5, 9, 3), 255, np.uint8)
    result = pixels(processor_class(), frames, do_resize=False, do_normalize=False, crop_size=8)[0, 0, 0]
    expected = torch.zeros(8, 8)
    expected[1:6] = 1  # of the three missing rows, the odd one is below
    assert torch.equal(result, expected)


@both_backends
def test_normalised_frames_pass_untouched_where_rescaling_and_normalising_are_off(processor_class):
    frames = torch.randn(2, 3, 224, 224)
    result = pixels(processor_class(), frames, do_rescale=False, do_normalize=False)
    assert torch.equal(result[0], frames)


@both_backends
@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "empty list"),
        ([[]], "empty list"),
        (np.zeros((1, 1, 2, 8, 8, 3)), r"shape \(1, 1, 2, 8, 8, 3\)"),
        ([np.zeros((8, 8, 3)), np.zeros((2, 8, 8, 3))], "a list of its own"),
        (np.zeros((2, 8, 9, 5)), "no axis of 1, 3 or 4 channels"),
        (np.full((2, 8, 8, 3), 300), "from 0 to 255"),
        (np.full((2, 8, 8, 3), -1), "from 0 to 255"),
        (np.zeros((2, 8, 8, 3)).astype(complex), "complex128"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.complex64), "complex64"),
        (np.full((2, 8, 8), "a"), "Expected frames of integers or floats"),
        ({1}, "Expected frames, or lists of them; got set"),
        ([1, 2], "Expected frames, or lists of them; got list"),
    ],
)
def test_wrong_input_is_refused_with_a_message_that_helps(processor_class, images, message):
    with pytest.raises((ValueError, TypeError), match=message):
        processor_class()(images, return_tensors="pt")


@every_processor
@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 0, 8, 3), (2, 8, 0, 3), (2, 3, 0, 8), (0, 2, 8, 8, 3), (0, 8)])
def test_frames_without_pixels_and_clips_without_frames_are_refused(processor_class, shape):
    processor = processor_class()
    empty = np.zeros(shape, np.uint8)
    forms = [
        empty,
        torch.from_numpy(empty),
        [empty],
        [[empty], [empty]],
        [*empty, *empty],
        [random_frames(8, 8, 3), empty],
    ]
    for form in forms:
        with pytest.raises(ValueError, match="frames"):
            processor(form, return_tensors="pt")
    for size in [(0, 5), (5, 0)]:
        with pytest.raises(ValueError, match=rf"at least one pixel.*PIL image of {size[0]} x {size[1]} pixels"):
            processor([Image.new("RGB", (8, 8)), Image.new("RGB", size)])


@every_processor
@pytest.mark.parametrize("mode", ["I", "F", "I;16", "I;16B", "I;16L", "I;16N", "La", "RGBa"])
@pytest.mark.parametrize("do_convert_rgb", [True, False])
def test_pil_modes_that_do_not_say_which_value_is_white_are_refused(processor_class, mode, do_convert_rgb):
    frames = [Image.new("RGB", (8, 8)), Image.new(mode, (8, 8))]
    with pytest.raises(ValueError, match=rf"PIL frames of a mode among .*; got {mode}\. .* floats in \[0, 1\]"):
        processor_class()(frames, do_convert_rgb=do_convert_rgb)


@every_processor
def test_pil_modes_of_8_bits_show_the_colors_that_they_mean(processor_class):
    processor = processor_class(size=8, crop_size=8)
    red, gray, white = (Image.new("RGB", (8, 8), color) for color in ("red", (90, 90, 90), "white"))
    clear = Image.new("RGBA", (8, 8), (9, 9, 9, 0))
    meant = [(red.convert(mode), red) for mode in ("P", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")]
    meant += [(gray.convert("L"), gray), (gray.convert("LA"), gray), (Image.new("LAB", (8, 8), (97, 128, 128)), gray)]
    meant += [(image, white) for image in (clear, clear.convert("LA"), clear.convert("PA"), white.convert("1"))]
    for image, same in meant:
        difference = (pixels(processor, image) - pixels(processor, same)).abs().max()
        assert difference <= ONE_LEVEL, image.mode


@every_processor
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(processor_class, value):
    frames = np.zeros((2, 8, 8, 3))
    frames[1, 3, 3, 0] = value
    for form in (frames, torch.from_numpy(frames), list(frames), frames[..., :1], frames[..., [0, 1, 2, 0]]):
        with pytest.raises(ValueError, match="frames of finite numbers"):
            processor_class()(form)


@every_processor
@pytest.mark.parametrize("channels", [1, 4])
def test_means_for_other_channels_than_the_frames_have_are_refused(processor_class, channels):
    frames = random_frames(2, 8, 8, channels)
    with pytest.raises(ValueError, match=rf"`image_mean`, or one for each channel of the frames: {channels}; got 3"):
        processor_class()(frames, do_convert_rgb=False)
    processor = processor_class(do_convert_rgb=False, image_mean=[0.5] * channels, image_std=[0.5] * channels)
    assert pixels(processor, frames).shape[2] == channels


@both_backends
def test_frames_may_require_gradients(processor_class):
    frames = torch.rand(2, 3, 30, 40)
    assert torch.equal(pixels(processor_class(), frames.requires_grad_()), pixels(processor_class(), frames.detach()))


@both_backends
def test_clips_that_do_not_stack_are_refused_only_where_tensors_are_asked_for(processor_class):
    processor = processor_class(size=8, crop_size=8)
    clips = [random_frames(2, 9, 9, 3), random_frames(3, 9, 9, 3)]
    with pytest.raises(ValueError, match="same number of frames"):
        processor(clips, return_tensors="pt")
    assert [len(clip) for clip in processor(clips)["pixel_values"]] == [2, 3]
    with pytest.raises(ValueError, match="do_center_crop"):
        processor([random_frames(8, 9, 3), random_frames(8, 12, 3)], do_center_crop=False)


@both_backends
def test_numpy_tensors_are_returned_on_demand(processor_class):
    frames = random_frames(2, 30, 40, 3)
    processor = processor_class(size=8, crop_size=8)
    result = processor(frames, return_tensors="np")["pixel_values"]
    assert isinstance(result, np.ndarray)
    assert np.array_equal(result, pixels(processor, frames).numpy())


@both_backends
def test_settings_survive_a_round_trip(processor_class, tmp_path):
    processor = processor_class(size=96, crop_size=80, do_flip_channel_order=True, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path)
    again = processor_class.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    assert (again.size, again.do_flip_channel_order) == ({"shortest_edge": 96}, True)
    assert (tmp_path / "preprocessor_config.json").is_file()


@both_backends
def test_the_input_is_not_changed(processor_class):
    frames = random_frames(2, 224, 224, 3)
    floats = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    for images in (frames, floats):
        before = images.copy() if isinstance(images, np.ndarray) else images.clone()
        pixels(processor_class(), images)
        assert (images == before).all()


def test_equal_frames_are_resized_in_one_call(monkeypatch):
    processor, calls = FALImageProcessor(), []
    resize = type(processor).resize
    monkeypatch.setattr(type(processor), "resize", lambda *args, **kw: calls.append(1) or resize(*args, **kw))
    processor([Image.fromarray(frame) for frame in random_frames(8, 30, 40, 3)])
    assert len(calls) == 1
