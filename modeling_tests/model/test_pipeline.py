"""`pipeline("video-classification")` on a folder with a tiny model: what may go in, and what comes out."""

import logging
import shutil
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoVideoProcessor,
    TimesformerConfig,
    TimesformerForVideoClassification,
    pipeline,
)
from transformers import logging as transformers_logging

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT
from fal_hf.model.image_processing import ImageProcessing
from fal_hf.model.image_processing_fal import FALImageProcessor
from fal_hf.model.image_processing_pil_fal import FALImageProcessorPil
from fal_hf.model.video_processing_fal import FALVideoProcessor

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SIZES |= {"image_size": 32, "patch_size": 16, "num_frames": 4}
LABELS = {"id2label": {0: "walk", 1: "run", 2: "jump"}, "label2id": {"walk": 0, "run": 1, "jump": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny FAL model and its video processor, as `save_pretrained` writes them."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    FALVideoClassifierForVideoClassification(FALConfig(**SIZES, **LABELS)).save_pretrained(path)
    FALVideoProcessor(num_frames=4, size=32, crop_size=32).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    """Three files of different lengths and sizes; the last one is shorter than the model's clip."""
    paths = []
    for number, (num_frames, width, height) in enumerate([(20, 64, 48), (12, 48, 80), (2, 64, 64)]):
        paths.append(tmp_path_factory.mktemp("videos") / f"{number}.mp4")
        noise = np.random.default_rng(number).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
        with av.open(str(paths[-1]), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in noise:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    return paths


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline("video-classification", model=str(folder))


def scores_of(result: list[dict]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in result}


def assert_same(results, others) -> None:
    for result, other in zip(results, others, strict=True):
        assert scores_of(result) == pytest.approx(scores_of(other), abs=1e-6)


@pytest.fixture(scope="module")
def expected(folder, videos) -> list[list[dict]]:
    """Scores computed without a pipeline, one video at a time."""
    model = FALVideoClassifierForVideoClassification.from_pretrained(folder).eval()
    processor = FALVideoProcessor.from_pretrained(folder)
    results = []
    for video in videos:
        with torch.no_grad():
            logits = model(**processor(video, return_tensors="pt")).logits
        probabilities = logits.softmax(-1)[0].tolist()
        results.append([{"label": LABELS["id2label"][i], "score": score} for i, score in enumerate(probabilities)])
    assert scores_of(results[0]) != pytest.approx(scores_of(results[1]), abs=1e-6)
    return results


def test_a_path_is_labelled_as_the_model_says(pipe, videos, expected):
    assert isinstance(pipe.video_processor, FALVideoProcessor)
    for video, right in zip(videos, expected, strict=True):
        result = pipe(str(video))
        assert_same([result], [right])
        scores = [entry["score"] for entry in result]
        assert scores == sorted(scores, reverse=True)


def test_path_objects_bytes_and_open_files_work_too(pipe, videos, expected):
    for video, right in zip(videos, expected, strict=True):
        assert_same([pipe(video), pipe(video.read_bytes())], [right, right])
        with open(video, "rb") as opened:
            assert_same([pipe(opened)], [right])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_list_of_paths_is_labelled_in_batches(pipe, videos, expected, batch_size):
    assert_same(pipe([str(video) for video in videos], batch_size=batch_size), expected)
    assert_same(pipe(list(videos), batch_size=batch_size), expected)


def test_one_clip_of_frames_is_given_as_an_array_a_tuple_or_a_list_in_a_list(pipe, videos, expected):
    (clip,) = pipe.video_processor.sample_clips(videos[0])
    images = [Image.fromarray(frame) for frame in clip.frames]
    one = [clip.frames, torch.from_numpy(clip.frames).permute(0, 3, 1, 2), tuple(images)]
    assert_same([pipe(video) for video in one], [expected[0]] * 3)
    assert_same(pipe([images, list(clip.frames)]), [expected[0]] * 2)


def test_no_warning_is_given_and_torchcodec_is_not_asked_for(folder, videos, caplog):
    transformers_logging.enable_propagation()
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            pipeline("video-classification", model=str(folder))(str(videos[0]))
    finally:
        transformers_logging.disable_propagation()
    about = [record.message for record in caplog.records if "deprecat" in record.message or "codec" in record.message]
    assert about == []


def test_the_number_of_frames_can_be_chosen(pipe, videos, folder):
    model = FALVideoClassifierForVideoClassification.from_pretrained(folder).eval()
    inputs = pipe.video_processor(videos[0], num_frames=6, return_tensors="pt")
    assert inputs["pixel_values"].shape[1] == 6
    with torch.no_grad():
        probabilities = model(**inputs).logits.softmax(-1)[0]
    assert max(scores_of(pipe(str(videos[0]), num_frames=6)).values()) == pytest.approx(
        probabilities.max().item(), abs=1e-5
    )


def test_top_k_and_the_function_to_apply_are_honoured(pipe, videos):
    assert len(pipe(str(videos[0]), top_k=2)) == 2
    raw = scores_of(pipe(str(videos[0]), function_to_apply="none"))
    probabilities = scores_of(pipe(str(videos[0])))
    softmax = torch.tensor([raw[label] for label in probabilities]).softmax(0).tolist()
    assert softmax == pytest.approx(list(probabilities.values()), abs=1e-5)


def test_a_saved_pipeline_labels_as_before(pipe, videos, expected, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = pipeline("video-classification", model=str(tmp_path))
    assert isinstance(again.video_processor, FALVideoProcessor)
    assert_same([again(str(videos[0]))], [expected[0]])


@pytest.mark.parametrize(
    "sampling",
    [
        {"frame_interval_seconds": 0.125, "num_clips": 6},
        {"frame_stride": 2, "start_seconds": 0.1},
        {"end_seconds": 0.5, "do_flip_channel_order": True},
    ],
    ids=str,
)
def test_a_saved_pipeline_takes_the_frames_that_it_took_before(folder, videos, tmp_path, sampling):
    source, once, twice = tmp_path / "source", tmp_path / "once", tmp_path / "twice"
    shutil.copytree(folder, source)
    shutil.copytree(folder, twice)  # which holds another pipeline already
    FALVideoProcessor(num_frames=4, size=32, crop_size=32, **sampling).save_pretrained(source)
    first = pipeline("video-classification", model=str(source))
    first.save_pretrained(once)
    pipeline("video-classification", model=str(once)).save_pretrained(twice)
    last = pipeline("video-classification", model=str(twice))
    assert last.video_processor.to_dict() == first.video_processor.to_dict()
    assert_same(last([str(video) for video in videos]), first([str(video) for video in videos]))


def test_the_built_in_checkpoint_labels_as_before_when_a_pipeline_has_saved_it(videos, tmp_path):
    first = pipeline("video-classification", model=str(DEFAULT_CHECKPOINT))
    first.save_pretrained(tmp_path)
    last = pipeline("video-classification", model=str(tmp_path))
    assert last.video_processor.frame_interval_seconds == 0.125
    assert_same([last(str(videos[0]))], [first(str(videos[0]))])


@pytest.mark.parametrize("processor_class", ImageProcessing.__subclasses__())
def test_an_image_processor_without_a_pipeline_is_saved_alone(processor_class, folder, tmp_path):
    processor = processor_class.from_pretrained(folder)
    processor.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["preprocessor_config.json"]
    in_pipeline = processor_class.from_pretrained(folder, _from_pipeline="video-classification")
    assert in_pipeline.to_dict() == processor.to_dict()


def test_the_auto_classes_find_the_processors(folder):
    assert isinstance(AutoVideoProcessor.from_pretrained(folder), FALVideoProcessor)
    assert type(AutoImageProcessor.from_pretrained(folder)) is FALImageProcessor
    assert type(AutoImageProcessor.from_pretrained(folder, backend="pil")) is FALImageProcessorPil


def test_a_timesformer_model_works_with_the_fal_processor(videos, tmp_path):
    model = TimesformerForVideoClassification(TimesformerConfig(**SIZES, **LABELS))
    processor = FALVideoProcessor(num_frames=4, size=32, crop_size=32)
    result = pipeline("video-classification", model=model, video_processor=processor)(str(videos[0]))
    assert {entry["label"] for entry in result} == {"walk", "run", "jump"}


def test_real_videos_are_labelled(pipe, media):
    paths = [str(path) for path in sorted((media / "clips").iterdir())]
    results = pipe(paths, batch_size=2)
    assert len(results) == len(paths)
    assert all(sum(scores_of(result).values()) == pytest.approx(1) for result in results)
