"""`pipeline("zero-shot-video-classification")` on a folder with a tiny model that takes any labels."""

import io
import itertools
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from media_files import moving_frames, write_video
from naive_fal import naive_similarity
from transformers import pipeline
from transformers.models.videomae import VideoMAEConfig, VideoMAEForVideoClassification

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT
from fal_hf.model.zero_shot_pipeline import ZeroShotVideoClassificationPipeline

TASK = "zero-shot-video-classification"
LABELS = ["a dog runs", "猫が走る", "a car, turning"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    """Two files, and one that is shorter than the model's clip."""
    folder = tmp_path_factory.mktemp("videos")
    counts = [20, 12, 2]
    return [write_video(folder / f"{seed}.mp4", moving_frames(count, seed=seed)) for seed, count in enumerate(counts)]


@pytest.fixture
def pipe(open_checkpoint):
    return pipeline(TASK, model=str(open_checkpoint))


def expected_scores(folder: Path, video: Path, *, prompt: str = "a video of {}", **options) -> torch.Tensor:
    """The naive way, `(labels,)` logits: one video through processor and model, the texts one by one."""
    model = FALVideoClassifierForVideoClassification.from_pretrained(folder).eval()
    inputs = FALVideoProcessor.from_pretrained(folder)(video, return_tensors="pt", **options)
    with torch.no_grad():
        embeddings = torch.cat([model.text_encoder([prompt.replace("{}", label)]) for label in LABELS])
        return naive_similarity(model.classifier, model.fal(**inputs).pooler_output, embeddings)[0]


def check(result: list[dict], expected: torch.Tensor, labels=LABELS) -> None:
    scores = [entry["score"] for entry in result]
    assert scores == sorted(scores, reverse=True)
    assert [set(entry) for entry in result] == [{"score", "label"}] * len(labels)
    named = {entry["label"]: entry["score"] for entry in result}
    assert [named[label] for label in labels] == pytest.approx(expected.tolist(), abs=1e-5)


def test_scores_are_those_of_the_likeness_to_the_texts(pipe, open_checkpoint, videos):
    assert type(pipe) is ZeroShotVideoClassificationPipeline
    for video in videos:
        logits = expected_scores(open_checkpoint, video)
        check(pipe(str(video), candidate_labels=LABELS), logits.softmax(-1))
        check(pipe(str(video), LABELS, multi_label=True), logits.sigmoid())


def test_a_template_holds_for_its_call_alone(pipe, open_checkpoint, videos):
    other = expected_scores(open_checkpoint, videos[0], prompt="{}, filmed").softmax(-1)
    check(pipe(videos[0], candidate_labels=LABELS, hypothesis_template="{}, filmed"), other)
    check(pipe(videos[0], candidate_labels=LABELS), expected_scores(open_checkpoint, videos[0]).softmax(-1))


def test_labels_may_be_a_text_with_commas_or_be_given_with_the_model(pipe, open_checkpoint, videos):
    expected = pipe(videos[0], candidate_labels=["one", "two"])
    assert pipe(videos[0], candidate_labels=" one,two ") == expected
    bound = pipeline(TASK, model=str(open_checkpoint), candidate_labels=["one", "two"])
    assert bound(videos[0]) == expected
    assert len(bound(videos[0], candidate_labels=LABELS)) == 3 and bound(videos[0]) == expected


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_list_gives_a_list_in_batches_of_any_size(pipe, open_checkpoint, videos, batch_size):
    results = pipe([str(video) for video in videos], candidate_labels=LABELS, batch_size=batch_size)
    assert len(results) == 3
    for video, result in zip(videos, results, strict=True):
        check(result, expected_scores(open_checkpoint, video).softmax(-1))


def test_bytes_open_files_and_frames_work_too(pipe, videos):
    expected = pipe(videos[0], candidate_labels=LABELS)
    (clip,) = pipe.video_processor.sample_clips(videos[0])
    with open(videos[0], "rb") as file:
        for video in (videos[0].read_bytes(), file, clip.frames, io.BytesIO(videos[0].read_bytes())):
            assert pipe(video, candidate_labels=LABELS) == expected


def test_the_number_of_frames_can_be_chosen(pipe, open_checkpoint, videos):
    expected = expected_scores(open_checkpoint, videos[0], num_frames=6).softmax(-1)
    check(pipe(videos[0], candidate_labels=LABELS, num_frames=6), expected)


def test_calls_that_are_read_in_turns_keep_their_labels(pipe, videos):
    calls = [pipe((video for video in videos), candidate_labels=labels) for labels in (LABELS, ["one", "two"])]
    alone = [pipe(videos, candidate_labels=labels) for labels in (LABELS, ["one", "two"])]
    assert list(zip(*calls, strict=True)) == list(zip(*alone, strict=True))


def test_each_text_goes_through_the_text_tower_once(pipe, videos):
    tower, sizes = pipe.model.text_encoder.model, []
    tower.register_forward_pre_hook(lambda *_, **inputs: sizes.append(1), with_kwargs=False)
    for labels in (LABELS, LABELS[::-1], ["one", *LABELS]):
        pipe(videos, candidate_labels=labels)
    assert len(sizes) == 2


def test_a_saved_pipeline_takes_any_labels_again(pipe, videos, tmp_path):
    expected = pipe(videos[0], candidate_labels=LABELS)
    pipe.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "text" / "model.safetensors").exists()
    assert not list((tmp_path / "saved").glob("*.py"))
    again = pipeline(TASK, model=str(tmp_path / "saved"))
    assert again(videos[0], candidate_labels=LABELS) == expected
    assert again(videos[0], candidate_labels=["one", "two"]) == pipe(videos[0], candidate_labels=["one", "two"])


def test_ten_thousand_labels_come_back_in_the_order_of_their_scores(pipe, videos):
    labels = [f"движение {number}" for number in range(10_000)]
    result = pipe(videos[0], candidate_labels=labels)
    assert {entry["label"] for entry in result} == set(labels)
    assert sum(entry["score"] for entry in result) == pytest.approx(1, abs=1e-3)
    assert all(one["score"] >= two["score"] for one, two in itertools.pairwise(result))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r'expected labels, candidate_labels=\["a dog runs", "a car turns"\], got none'),
        ({"candidate_labels": []}, "expected a list of labels, .* got an empty one"),
        ({"candidate_labels": ""}, "each a text, got ''"),
        ({"candidate_labels": "a,,b"}, "each a text, got ''"),
        ({"candidate_labels": ["a", " "]}, "each a text, got ' '"),
        ({"candidate_labels": ["a", "b", "a"]}, "that differ, got a more than once"),
        ({"candidate_labels": "a, a"}, "that differ, got a more than once"),
        ({"candidate_labels": 3}, "expected a list of labels, .* got 3"),
        ({"candidate_labels": ["a", 3]}, "each a text, got 3"),
        ({"candidate_labels": LABELS, "hypothesis_template": "a video"}, r"expected a prompt with \{\}"),
    ],
)
def test_wrong_labels_are_refused_before_a_video_is_opened(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        pipe("gone.mp4", **options)


def test_models_that_know_their_own_labels_only_are_refused():
    with pytest.raises(ValueError, match="expected a model with label embeddings, got one with a head"):
        pipeline(TASK, model=str(DEFAULT_CHECKPOINT))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    foreign = VideoMAEForVideoClassification(VideoMAEConfig(image_size=16, **sizes))
    with pytest.raises(ValueError, match="expected a FAL model with label embeddings, got a VideoMAEFor"):
        pipeline(TASK, model=foreign, video_processor=FALVideoProcessor())


def test_a_text_tower_that_is_missing_or_damaged_is_named(open_checkpoint, videos, tmp_path):
    shutil.copytree(open_checkpoint, tmp_path / "model")
    (tmp_path / "model" / "text" / "model.safetensors").write_text("text")
    with pytest.raises(ValueError, match="model: expected a text tower of CLIP and its tokenizer in text, got"):
        pipeline(TASK, model=str(tmp_path / "model"))(videos[0], candidate_labels=LABELS)
    shutil.rmtree(tmp_path / "model" / "text")
    with pytest.raises(ValueError, match="expected a model that came with a text tower"):
        pipeline(TASK, model=str(tmp_path / "model"))(videos[0], candidate_labels=LABELS)


def test_a_model_that_never_learned_independent_scores_is_told_of(pipe, videos):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipe(videos[0], candidate_labels=LABELS, multi_label=True)
    with torch.no_grad():
        pipe.model.classifier.logit_bias.zero_()
    with pytest.warns(UserWarning, match="never been trained for scores that are independent") as caught:
        pipe(videos[0], candidate_labels=LABELS, multi_label=True)
    assert len(caught) == 1
