"""Embeddings of videos beside the naive way: each view alone through the processor and the model."""

import json

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video
from tiny_fal import tiny_model

from fal_hf import FALVideoProcessor, Stretch, VideoError, VideoLabeler, Views
from fal_hf.labeling.records import is_embedding_record, is_record, unpack_embedding

LOSSLESS = {"codec": "ffv1", "pixel_format": "bgr0"}
SIZE = 16


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("videos") / "a.mkv", moving_frames(40), **LOSSLESS))


def make_labeler(tiny_checkpoint, views: Views | None = None, **fields) -> VideoLabeler:
    model = tiny_model(**fields)
    return VideoLabeler(model, FALVideoProcessor.from_pretrained(tiny_checkpoint), views=views)


def naive_embedding(labeler: VideoLabeler, video, **options) -> np.ndarray:
    """The mean over the clips, all tokens of each computed."""
    clips = labeler.processor.sample_clips(video, **options)
    embeddings = []
    for clip in clips:
        inputs = labeler.processor(clip.frames, do_sample_frames=False, return_tensors="pt")
        with torch.no_grad():
            embeddings.append(labeler.model.fal(**inputs).pooler_output[0])
    return torch.stack(embeddings).mean(dim=0).numpy()


@pytest.mark.parametrize("attention_type", ["divided_space_time", "space_only", "joint_space_time"])
def test_an_embedding_is_the_mean_of_the_clips_pooled_tokens(tiny_checkpoint, video, attention_type):
    labeler = make_labeler(tiny_checkpoint, attention_type=attention_type)
    found = labeler.embed(video)
    assert found.embedding.shape == (SIZE,) and found.embedding.dtype == np.float32
    np.testing.assert_allclose(found.embedding, naive_embedding(labeler, video), atol=1e-5)
    assert (found.video, found.num_clips, found.duration_seconds) == (video, 3, pytest.approx(1.6))
    assert (found.start_seconds, found.end_seconds, found.windows) == (None, None, None)


def test_models_that_take_any_labels_have_the_same_embedding_whatever_these_are(open_checkpoint, video):
    own = VideoLabeler.from_pretrained(open_checkpoint).embed(video)
    given = VideoLabeler.from_pretrained(open_checkpoint, labels=["a dog runs", "a car turns"]).embed(video)
    np.testing.assert_array_equal(own.embedding, given.embedding)


def test_a_stretch_is_embedded_like_a_video_of_its_own(tiny_checkpoint, video, tmp_path):
    part = write_video(tmp_path / "part.mkv", moving_frames(40)[10:30], **LOSSLESS)
    labeler = make_labeler(tiny_checkpoint)
    found = labeler.embed(video, stretch=Stretch(0.4, 1.2))
    np.testing.assert_array_equal(found.embedding, labeler.embed(part).embedding)
    assert (found.start_seconds, found.end_seconds) == pytest.approx((0.4, 1.2))


def test_each_window_has_an_embedding_and_the_video_their_mean(tiny_checkpoint, video):
    labeler = make_labeler(tiny_checkpoint, Views(windows=True, window_seconds=0.4, hop_seconds=0.2))
    found = labeler.embed(video)
    np.testing.assert_allclose(found.windows.start_seconds, np.arange(7) * 0.2)
    np.testing.assert_allclose(found.windows.end_seconds, found.windows.start_seconds + 0.4)
    assert found.windows.embeddings.shape == (7, SIZE)
    np.testing.assert_allclose(found.windows.embeddings.mean(axis=0), found.embedding, atol=1e-6)
    alone = make_labeler(tiny_checkpoint, Views(num_clips=1)).embed(video, stretch=Stretch(0.8, 1.2))
    np.testing.assert_allclose(found.windows.embeddings[4], alone.embedding, atol=1e-6)


def test_windows_in_which_nothing_changes_take_over_the_embedding(tiny_checkpoint, tmp_path):
    frames = moving_frames(10)
    still = write_video(tmp_path / "still.mkv", [*frames, *[frames[9]] * 20], **LOSSLESS)
    views = Views(windows=True, window_seconds=0.2, reuse_static=6.0)
    embeddings = make_labeler(tiny_checkpoint, views).embed(still).windows.embeddings
    assert len(embeddings) == 6
    for window in (3, 4, 5):
        np.testing.assert_array_equal(embeddings[window], embeddings[2])
    assert not np.array_equal(embeddings[1], embeddings[2])


def test_crops_are_averaged_and_scales_weigh_as_for_scores(tiny_checkpoint, video):
    labeler = make_labeler(tiny_checkpoint, Views(num_clips=1, num_crops=3, scales=(0.5, 1.0)))
    with labeler.reader.open(video) as file:
        (batch,) = labeler.reader.read(file, labeler.reader.plan(file))
    by_scale = []
    for pixels in batch:
        with torch.no_grad():
            crops = [labeler.model.fal(torch.from_numpy(crop[None])).pooler_output[0] for crop in pixels[0]]
        by_scale.append(torch.stack(crops).mean(dim=0))
    expected = (0.5 * by_scale[0] + by_scale[1]) / 1.5
    np.testing.assert_allclose(labeler.embed(video).embedding, expected.numpy(), atol=1e-5)


def test_a_record_has_the_same_numbers_to_the_bit(tiny_checkpoint, video):
    labeler = make_labeler(tiny_checkpoint, Views(windows=True, window_seconds=0.4))
    found = labeler.embed(video, stretch=Stretch(0.4))
    record = json.loads(json.dumps(found.to_dict()))
    assert is_embedding_record(record, size=SIZE) and not is_record(record)
    assert not is_embedding_record(record, size=SIZE + 1)
    np.testing.assert_array_equal(unpack_embedding(record["embedding"]), found.embedding)
    windows = np.stack([unpack_embedding(window["embedding"]) for window in record["windows"]])
    np.testing.assert_array_equal(windows, found.windows.embeddings)
    assert [window["start_seconds"] for window in record["windows"]] == found.windows.start_seconds.tolist()
    assert (record["start_seconds"], record["end_seconds"]) == (found.start_seconds, found.end_seconds)


def test_a_video_that_cannot_be_read_is_an_error_of_the_video(tiny_checkpoint, tmp_path):
    (tmp_path / "broken.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        make_labeler(tiny_checkpoint).embed(tmp_path / "broken.mp4")
