"""`pipeline("video-feature-extraction")` on a folder with a tiny model: tokens and embeddings of videos."""

import pytest
import torch
from media_files import moving_frames, write_video
from transformers import pipeline

from fal_hf import FALModel, FALVideoProcessor
from fal_hf.model.feature_pipeline import VideoFeatureExtractionPipeline

TASK = "video-feature-extraction"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    counts = [20, 12, 2]
    return [
        str(write_video(folder / f"{seed}.mp4", moving_frames(count, seed=seed))) for seed, count in enumerate(counts)
    ]


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint):
    return pipeline(TASK, model=str(tiny_checkpoint))


def expected_outputs(checkpoint, video, **options):
    model = FALModel.from_pretrained(checkpoint).eval()
    inputs = FALVideoProcessor.from_pretrained(checkpoint)(video, return_tensors="pt", **options)
    with torch.no_grad():
        return model(**inputs)


def test_tokens_and_embeddings_are_those_of_the_model(pipe, tiny_checkpoint, videos):
    assert type(pipe) is VideoFeatureExtractionPipeline
    for video in videos:
        expected = expected_outputs(tiny_checkpoint, video)
        assert pipe(video, return_tensors=True).shape == (1, 1 + 4 * 4 * 4, 16)
        torch.testing.assert_close(torch.tensor(pipe(video)), expected.last_hidden_state)
        pooled = pipe(video, pool=True, return_tensors=True)
        torch.testing.assert_close(pooled, expected.pooler_output)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_list_gives_a_list_and_options_may_be_the_pipelines_own(tiny_checkpoint, videos, batch_size):
    pooling = pipeline(TASK, model=str(tiny_checkpoint), pool=True, batch_size=batch_size)
    for video, embedding in zip(videos, pooling(videos, return_tensors=True), strict=True):
        torch.testing.assert_close(embedding.reshape(1, -1), expected_outputs(tiny_checkpoint, video).pooler_output)


def test_the_number_of_frames_can_be_chosen_and_bytes_work_too(pipe, tiny_checkpoint, videos):
    expected = expected_outputs(tiny_checkpoint, videos[0], num_frames=6)
    with open(videos[0], "rb") as file:
        tokens = pipe(file.read(), num_frames=6, return_tensors=True)
    assert tokens.shape == (1, 1 + 6 * 4 * 4, 16)
    torch.testing.assert_close(tokens, expected.last_hidden_state)


def test_a_video_that_cannot_be_read_is_named(pipe, tmp_path):
    (tmp_path / "broken.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        pipe(str(tmp_path / "broken.mp4"))
