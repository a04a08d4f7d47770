"""What holds for whatever is drawn: configurations, clips in any form, and what `save_pretrained` writes.

`make test` tries a few examples of each property and the slow tests many, the same ones each time.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from media_files import moving_frames, write_video
from PIL import Image
from tiny_fal import random_clip, tiny_model
from transformers import pipeline
from transformers.activations import ACT2FN

from fal_hf import (
    FALConfig,
    FALImageProcessor,
    FALImageProcessorPil,
    FALModel,
    FALVideoClassifierForVideoClassification,
    FALVideoProcessor,
)
from fal_hf.model.attention_schemes import ATTENTION_SCHEMES, ATTENTION_TYPES
from fal_hf.model.configuration_fal import ATTENTION_ORDERS, POSITION_EMBEDDING_TYPES, SMALLEST_FLOAT32
from fal_hf.model.frames import PIL_MODES
from fal_hf.model.label_space import LABEL_ATTENTIONS
from fal_hf.model.patch_layout import PATCH_LAYOUTS

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

PROCESSORS = (FALImageProcessor, FALImageProcessorPil, FALVideoProcessor)


def holds(*, few: int, many: int, **strategies) -> Callable:
    """A test that a property holds for few and, where that may take long, for many examples."""

    def as_test(check: Callable) -> Callable:
        @pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])
        def test(examples):
            slow_to_draw = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
            same = settings(derandomize=True, deadline=None, suppress_health_check=slow_to_draw)
            settings(same, max_examples=examples)(given(**strategies)(check))()

        return test

    return as_test


# ---- configurations ----

positive = partial(st.floats, exclude_min=True, allow_infinity=False)
probabilities = st.floats(0, 1) | st.integers(0, 1)
WILD = [None, True, -1, 0, 0.5, 1, 1.5, 3, 7, float("nan"), float("inf"), -0.1, "", "gelu", "axial", [], [8], [8, 12]]


def takes_layout(attention_type: str, layout: str) -> bool:
    """Whether a scheme works on the tokens that a layout leaves."""
    if layout == "static":
        return attention_type == "joint_space_time"
    return layout == "uniform" or not ATTENTION_SCHEMES[attention_type].needs_grid


@st.composite
def config_fields(draw) -> dict[str, Any]:
    """Fields of a small configuration that is accepted."""
    heads, patch_size = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    sides = st.integers(1, 3).map(lambda patches: patches * patch_size)
    attention_type = draw(st.sampled_from(ATTENTION_TYPES))
    num_layers, num_labels = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    # Labels below one another, the first ones below what is no label.
    parents = st.integers(1, num_labels).map(lambda first: {f"LABEL_{n}": f"LABEL_{n + 1}" for n in range(first)})
    orders = ATTENTION_ORDERS if attention_type == "divided_space_time" else ATTENTION_ORDERS[:1]
    layout = draw(st.sampled_from(PATCH_LAYOUTS).filter(lambda layout: takes_layout(attention_type, layout)))
    thresholds = st.just(0)  # with which the clips of a batch all have as many tokens
    return {
        "hidden_size": heads * draw(st.integers(1, 6)),
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(1, 9)),
        "hidden_act": draw(st.sampled_from(sorted(ACT2FN))),
        "hidden_dropout_prob": draw(probabilities),
        "attention_probs_dropout_prob": draw(probabilities),
        "drop_path_rate": draw(st.floats(0, 1, exclude_max=True)),
        "initializer_range": draw(positive(min_value=0)),
        "layer_norm_eps": draw(positive(min_value=SMALLEST_FLOAT32)),
        "qkv_bias": draw(st.booleans()),
        "image_size": draw(sides | st.lists(sides, min_size=2, max_size=2) | st.tuples(sides, sides)),
        "patch_size": patch_size,
        "patch_layout": layout,
        "patch_share": draw(st.floats(0.25, 1)),
        "patch_threshold": draw(thresholds if layout == "static" else st.none() | thresholds),
        "num_channels": draw(st.integers(1, 5)),
        "num_frames": draw(st.integers(1, 4)),
        "attention_type": attention_type,
        "attention_order": draw(st.sampled_from(orders)),
        "position_embedding_type": draw(st.sampled_from(POSITION_EMBEDDING_TYPES)),
        "cls_in_temporal_attention": draw(st.booleans()),
        "classifier_hidden_size": draw(st.none() | st.integers(1, 5)),
        "num_labels": num_labels,
        "label_attention": draw(st.sampled_from(LABEL_ATTENTIONS)),
        "label_integration_layer": draw(st.integers(0, num_layers - 1)),
        "label_embedding_size": draw(st.integers(1, 5)),
        "label_gates": draw(st.booleans()),
        "label_hierarchy": draw(st.none() | parents),
        "output_attentions": draw(st.booleans()),
        "output_hidden_states": draw(st.booleans()),
    }


@holds(few=100, many=800, fields=config_fields(), grid=st.tuples(*[st.integers(1, 3)] * 3), seed=st.integers(0, 9))
def test_a_configuration_builds_and_gives_finite_logits_for_clips_of_any_size(fields, grid, seed):
    config = FALConfig(**fields)
    torch.manual_seed(seed)
    check_logits(FALVideoClassifierForVideoClassification(config), random_clip(config, grid=grid, seed=seed))


@holds(few=500, many=1500, fields=config_fields(), wild=st.sampled_from(WILD), data=st.data())
def test_a_configuration_with_any_value_in_a_field_is_refused_by_name_or_builds(fields, wild, data):
    field = data.draw(st.sampled_from(sorted(fields.keys() & FALConfig.__annotations__)))
    try:
        config = FALConfig(**{**fields, field: wild})
    except StrictDataclassError as error:
        assert field in str(error)
        return
    check_logits(FALVideoClassifierForVideoClassification(config), random_clip(config))


def check_logits(model: FALVideoClassifierForVideoClassification, clip: torch.Tensor) -> None:
    with torch.inference_mode():
        logits = model.eval()(clip, return_dict=True).logits
    assert logits.shape == (len(clip), model.config.num_labels)
    assert torch.isfinite(logits).all()


# ---- clips ----


@dataclass(frozen=True)
class Drawn:
    """Something that is given to a processor.

    Attributes:
        form: what is given.
        lengths: the number of frames of each clip in it.
        is_fine: whether it must be taken; other input may be taken or refused.
    """

    form: Any
    lengths: tuple[int, ...] = (1,)
    is_fine: bool = False


DTYPES = ["uint8", "int8", "int16", "uint16", ">u2", "int32", "int64", "uint64", "bool"]
DTYPES += ["float16", "float32", "float64", ">f4", "longdouble", "complex64", "object", "str"]
KNOWN_TO_TORCH = {"uint8", "int8", "int16", "uint16", "int32", "int64", "bool", "float16", "float32", "float64"}
ODD_MODES = ["I", "F", "I;16", "I;16B", "La", "RGBa"]
sides = st.sampled_from([1, 2, 3, 5, 8, 1, 4, 7, 0])


@st.composite
def arrays(draw, *, leading: tuple[int, ...]) -> Drawn:
    """An array or tensor with `leading` axes, then those of a frame."""
    height, width = draw(sides), draw(sides)
    channels = draw(st.sampled_from([3, 3, 1, 4, 3, 2, 5, 0]))
    frame = draw(st.sampled_from([(height, width, channels), (channels, height, width)]))
    if not leading and draw(st.booleans()):
        frame, channels = (height, width), 1
    dtype = draw(st.sampled_from(DTYPES))
    low, high = draw(st.sampled_from([(0, 1), (0, 255), (-1, 1), (0, 70_000), (0, 1e30)]))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    with np.errstate(all="ignore"):
        values = generator.uniform(low, high, (*leading, *frame))
        is_floating = np.dtype(dtype).kind == "f"
        values = (values if is_floating else values.round()).astype(dtype)
    if is_floating and values.size and draw(st.booleans()):
        values.flat[generator.integers(values.size)] = draw(st.sampled_from([0, np.nan, np.inf, -np.inf, 0.5]))
    is_fine = values.size > 0 and channels in (1, 3, 4) and dtype in KNOWN_TO_TORCH
    is_fine = is_fine and bool(np.isfinite(values).all()) and bool((values >= 0).all() and (values <= 255).all())
    form = values
    if dtype in KNOWN_TO_TORCH and draw(st.booleans()):
        form = torch.from_numpy(values)
    elif draw(st.booleans()):
        form = values[::-1]
    return Drawn(form, is_fine=is_fine)


@st.composite
def images(draw) -> Drawn:
    mode = draw(st.sampled_from([*PIL_MODES, *ODD_MODES]))
    size = draw(st.tuples(sides, sides))
    image = Image.new(mode, size, draw(st.sampled_from([0, 1])) if mode in ("1", "P") else None)
    return Drawn(image, is_fine=mode in PIL_MODES and 0 not in size)


@st.composite
def clips(draw) -> Drawn:
    """One clip: a list or a tuple of frames, or an array of them."""
    length = draw(st.sampled_from([2, 1, 3, 2, 0]))
    if draw(st.booleans()):
        array = draw(arrays(leading=(length,)))
        return Drawn(array.form, (length,), array.is_fine)
    frames = draw(st.lists(images() | arrays(leading=()), min_size=length, max_size=length))
    sequence = draw(st.sampled_from([list, tuple]))
    is_fine = length > 0 and all(frame.is_fine for frame in frames)
    return Drawn(sequence(frame.form for frame in frames), (length,), is_fine)


@st.composite
def batches(draw) -> Drawn:
    """Clips, in lists or lists of lists, or an array of them."""
    if draw(st.integers(0, 3)) == 0:
        leading = draw(st.tuples(st.integers(0, 2), st.integers(0, 3)))
        array = draw(arrays(leading=leading))
        return Drawn(array.form, (leading[1],) * leading[0], array.is_fine)
    parts = draw(st.lists(clips(), max_size=3))
    form = [
        [part.form] if draw(st.booleans()) and not isinstance(part.form, list | tuple) else part.form for part in parts
    ]
    lengths = tuple(length for part in parts for length in part.lengths)
    return Drawn(form, lengths, bool(parts) and all(part.is_fine for part in parts))


junk = st.sampled_from(
    [None, 3, 0.5, {}, {1}, object(), [None], [1, 2], [[[0, 0, 0]]], [[], []], np.zeros(3), np.float32(1)]
)
anything = st.one_of(images(), arrays(leading=()), clips(), batches(), junk.map(Drawn))


@st.composite
def pixel_settings(draw) -> dict[str, Any]:
    """What all processors take; sizes are small, but for the one to which torch cannot resize bytes: 1 x 1."""
    small = st.integers(2, 9)
    options = {
        "size": small
        | st.builds(lambda side: {"shortest_edge": side}, small)
        | st.builds(lambda height, width: {"height": height, "width": width}, small, small),
        "crop_size": small | st.builds(lambda height, width: {"height": height, "width": width}, small, small),
        "resample": st.sampled_from([0, 2, 3, Image.Resampling.BILINEAR]),
        "image_mean": st.floats(0, 1) | st.lists(st.floats(0, 1), min_size=3, max_size=3),
        "image_std": st.floats(0.1, 1) | st.lists(st.floats(0.1, 1), min_size=3, max_size=3).map(tuple),
        "rescale_factor": st.floats(0.001, 1),
    }
    flags = ("resize", "center_crop", "rescale", "normalize", "convert_rgb", "flip_channel_order")
    options |= {f"do_{flag}": st.booleans() for flag in flags}
    return draw(st.fixed_dictionaries({}, optional=options))


@holds(
    few=600,
    many=5000,
    processor_class=st.sampled_from(PROCESSORS),
    options=pixel_settings(),
    num_frames=st.integers(1, 3),
    drawn=anything,
)
def test_frames_in_any_form_become_finite_pixels_or_are_refused_by_name(processor_class, options, num_frames, drawn):
    is_video = processor_class is FALVideoProcessor
    processor = processor_class(
        **{"size": 8, "crop_size": 8, **options}, **({"num_frames": num_frames} if is_video else {})
    )
    lengths = [num_frames for _ in drawn.lengths] if is_video else drawn.lengths
    must_be_taken = drawn.is_fine and len(set(lengths)) == 1 and processor.do_convert_rgb
    must_be_taken = must_be_taken and processor.do_resize and processor.do_center_crop
    try:
        pixels = processor(drawn.form, return_tensors="pt")["pixel_values"]
    except (ValueError, TypeError) as error:
        assert not must_be_taken, error
        assert re.search("frame|image|clip", str(error), re.IGNORECASE), error
        return
    assert pixels.dtype == torch.float32
    assert torch.isfinite(pixels).all()
    assert pixels.shape[:2] == (len(lengths), lengths[0])
    if processor.do_convert_rgb:
        assert pixels.shape[2] == 3
    if processor.do_center_crop:
        assert pixels.shape[3:] == (processor.crop_size["height"], processor.crop_size["width"])


# ---- save_pretrained ----


@st.composite
def sampling_settings(draw) -> dict[str, Any]:
    """What a video processor says about frames, for videos of a second and more."""
    spacing = draw(st.sampled_from([None, "fps", "frame_stride", "frame_interval_seconds"]))
    options = {
        "num_frames": st.integers(1, 6),
        "start_seconds": st.floats(0, 0.4),
        "end_seconds": st.floats(0.6, 2),
        "num_clips": st.integers(1, 3),
        "short_clip": st.just("hold"),
        "do_sample_frames": st.booleans(),
        "return_metadata": st.just(False),
    }
    given_options = draw(st.fixed_dictionaries({}, optional=options))
    steps = {
        "fps": st.floats(2, 30),
        "frame_stride": st.integers(1, 5),
        "frame_interval_seconds": st.floats(0.01, 0.5),
    }
    return given_options if spacing is None else {**given_options, spacing: draw(steps[spacing])}


@holds(few=40, many=500, fields=config_fields())
def test_a_saved_configuration_is_the_same(fields):
    config = FALConfig(**fields)
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        assert FALConfig.from_pretrained(folder).to_dict() == FALConfig(**fields).to_dict()


@holds(
    few=20,
    many=300,
    fields=config_fields(),
    model_class=st.sampled_from([FALModel, FALVideoClassifierForVideoClassification]),
)
def test_a_saved_model_computes_the_same(fields, model_class):
    model = tiny_model(
        FALConfig(**{**fields, "output_attentions": False})
    )  # transformers saves it for eager attention
    model = model.fal if model_class is FALModel else model
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = model_class.from_pretrained(folder).eval()
    weights = again.state_dict()
    assert all(torch.equal(weights.pop(name), value) for name, value in model.state_dict().items())
    assert not weights
    clip = random_clip(model.config)
    with torch.inference_mode():
        outputs = [each(clip, return_dict=True)[0] for each in (model, again)]
    torch.testing.assert_close(*outputs)


@holds(
    few=100,
    many=1000,
    processor_class=st.sampled_from(PROCESSORS),
    options=pixel_settings(),
    sampling=sampling_settings(),
)
def test_a_saved_processor_makes_the_same_pixels(processor_class, options, sampling):
    options = {**options, **sampling} if processor_class is FALVideoProcessor else options
    processor = processor_class(**{"size": 9, "crop_size": 9, **options})
    with TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        again = processor_class.from_pretrained(folder)
    assert again.to_dict() == processor.to_dict()
    frames = moving_frames(12, height=20, width=30)
    known = {"video_metadata": {"total_num_frames": 12, "fps": 8}} if processor_class is FALVideoProcessor else {}
    first, second = (each(frames, return_tensors="pt", **known)["pixel_values"] for each in (processor, again))
    assert torch.equal(first, second)


@holds(few=8, many=100, options=pixel_settings(), sampling=sampling_settings())
def test_a_saved_pipeline_labels_the_same(options, sampling):
    whole = {"size": 16, "crop_size": 16, "do_center_crop": True}  # what the model can be given
    with TemporaryDirectory() as name:
        folder = Path(name)
        tiny_model().save_pretrained(folder / "first")
        FALVideoProcessor(**{**options, **sampling, **whole}).save_pretrained(folder / "first")
        video = write_video(folder / "video.mp4", moving_frames(30))
        first = pipeline("video-classification", model=str(folder / "first"))
        first.save_pretrained(folder / "second")
        second = pipeline("video-classification", model=str(folder / "second"))
        scores, again = ({entry["label"]: entry["score"] for entry in pipe(str(video))} for pipe in (first, second))
    assert again == pytest.approx(scores, abs=1e-6)
