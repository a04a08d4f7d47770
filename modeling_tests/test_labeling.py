"""VideoLabeler: one video to its labels."""

import json
import shutil

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video
from tiny_fal import tiny_model

from fal_hf import VideoError, VideoLabeler, read_frames


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "moving.mp4", moving_frames(40))


@pytest.fixture(scope="module")
def labeler(tiny_checkpoint):
    return VideoLabeler.from_pretrained(tiny_checkpoint)


def test_scores_are_those_of_the_model_on_each_clip_averaged(labeler, video):
    result = labeler(str(video), top_k=5)
    frames = read_frames(video).frames
    # Three interleaved clips of four frames: the midpoints of twelfths, dealt out.
    indices = (40 * (2 * np.arange(12) + 1) // 24).reshape(4, 3).T
    inputs = labeler.processor([frames[clip] for clip in indices], return_tensors="pt")
    with torch.no_grad():
        expected = labeler.model(**inputs).logits.softmax(-1).mean(0)
    scores = {label.label: label.score for label in result.labels}
    assert [scores[name] for name in "abcde"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert result.num_clips == 3 and result.duration_seconds == pytest.approx(1.6, abs=0.01)


def test_labels_come_best_first_and_no_more_than_asked_for(labeler, video):
    labels = labeler(video, top_k=2).labels
    assert len(labels) == 2 and labels[0].score >= labels[1].score
    assert len(labeler(video, top_k=99).labels) == 5


def test_the_number_of_clips_can_be_chosen(tiny_checkpoint, video):
    assert VideoLabeler.from_pretrained(tiny_checkpoint, num_clips=7)(video).num_clips == 7


def test_bytes_and_open_files_are_videos_too(labeler, video):
    expected = labeler(video).labels
    assert labeler(video.read_bytes()).labels == expected
    with open(video, "rb") as file:
        result = labeler(file)
    assert result.labels == expected and result.video == "<BufferedReader>"


def test_the_result_can_be_written_as_json(labeler, video):
    record = json.loads(json.dumps(labeler(video).to_dict()))
    assert record["video"] == str(video)
    assert set(record["labels"][0]) == {"label", "score"}


def test_half_precision_gives_nearly_the_same_scores(tiny_checkpoint, labeler, video):
    half = VideoLabeler.from_pretrained(tiny_checkpoint, dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    scores = {label.label: label.score for label in labeler(video).labels}
    assert {label.label: label.score for label in half(video).labels} == pytest.approx(scores, abs=0.05)


def test_an_unreadable_video_is_one_clear_error(labeler, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        labeler(broken)


def test_a_wrong_top_k_is_refused(labeler, video):
    with pytest.raises(ValueError, match="expected top_k >= 1, got 0"):
        labeler(video, top_k=0)


def test_a_model_without_a_trained_head_is_refused(tiny_checkpoint, tmp_path):
    folder = tmp_path / "headless"
    shutil.copytree(tiny_checkpoint, folder)
    tiny_model().fal.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"classifier\.(weight|bias)"):
        VideoLabeler.from_pretrained(folder)


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8}))
    with pytest.raises(
        ValueError, match="expected the configuration of a FAL or TimeSformer model, got model_type='vit'"
    ):
        VideoLabeler.from_pretrained(tmp_path)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        VideoLabeler.from_pretrained(tmp_path / "nowhere")
