"""Messages between decoders, model and records: they can be sent, and every kind is known where they end."""

import pickle
from typing import get_args

import numpy as np
import pytest
import torch
from media_files import moving_frames, write_video

from fal_hf import VideoLabeler, Views
from fal_hf.bulk.collection import collect_records, score_message
from fal_hf.bulk.decoding import read_messages
from fal_hf.bulk.inputs import find_videos
from fal_hf.bulk.messages import (
    Batch,
    DecoderMessage,
    Ended,
    Failed,
    Opened,
    Reused,
    Scored,
    ScoredMessage,
    ScoringFailed,
    is_last,
)
from fal_hf.bulk.recorders import LabelRecorder


@pytest.fixture(scope="module")
def labeler(tiny_checkpoint):
    return VideoLabeler.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    (video,) = find_videos([str(write_video(tmp_path_factory.mktemp("videos") / "a.mp4", moving_frames(20)))])
    return video


def test_all_messages_of_a_video_can_be_pickled(labeler, video):
    messages = list(read_messages(labeler.reader, video))
    assert [type(message) for message in messages] == [Opened, Batch, Ended]
    opened, batch, ended = pickle.loads(pickle.dumps(messages))
    assert (opened, ended) == (messages[0], messages[2])
    np.testing.assert_array_equal(batch.views, messages[1].views)
    scored = score_message(LabelRecorder(labeler), video, batch)
    assert torch.equal(pickle.loads(pickle.dumps(scored)).scores, scored.scores)
    for failed in (Failed("a.mp4: is empty"), ScoringFailed("a.mp4: out of memory")):
        assert pickle.loads(pickle.dumps(failed)) == failed


def test_a_message_does_not_change():
    with pytest.raises(AttributeError):
        Failed("is empty").reason = "is full"


def test_the_last_messages_are_those_after_which_nothing_comes():
    kinds = {*get_args(DecoderMessage), *get_args(ScoredMessage)}
    assert kinds == {Opened, Batch, Scored, ScoringFailed, Reused, Ended, Failed}
    assert is_last(Ended()) and is_last(Failed("is empty"))
    assert not any(map(is_last, (Opened(None), Batch([]), Scored(torch.zeros(1, 5)), ScoringFailed("no"), Reused(0))))


def test_messages_become_a_record(labeler, video):
    scored = [
        (video, score_message(LabelRecorder(labeler), video, message))
        for message in read_messages(labeler.reader, video)
    ]
    ((_, record),) = collect_records(LabelRecorder(labeler), scored)
    assert record == labeler(video.name).to_dict()
    with pytest.raises(TypeError, match="expected a scored message, got Batch"):
        list(collect_records(LabelRecorder(labeler), [(video, Batch([]))]))


def test_windows_that_are_not_scored_are_in_the_record(tiny_checkpoint, tmp_path):
    views = Views(windows=True, window_seconds=0.2, reuse_static=6.0)
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=views)
    frames = moving_frames(20)
    still = np.concatenate([frames[:10], frames[9:10].repeat(20, axis=0)])
    (video,) = find_videos([str(write_video(tmp_path / "still.mp4", still))])
    messages = list(read_messages(labeler.reader, video))
    assert [type(message) for message in messages] == [Opened, Reused, Reused, Reused, Batch, Ended]
    assert pickle.loads(pickle.dumps(messages[1])) == Reused(2)
    scored = [(video, score_message(LabelRecorder(labeler), video, message)) for message in messages]
    ((_, record),) = collect_records(LabelRecorder(labeler), scored)
    assert record == labeler(video.name).to_dict()
    assert record["num_reused_windows"] == 3 and len(record["windows"]) == 6
    assert record["windows"][-1]["labels"] == record["windows"][2]["labels"] != record["windows"][1]["labels"]


def test_the_first_failure_is_the_one_that_is_told(labeler, video):
    said = [ScoringFailed("out of memory"), ScoringFailed("still"), Failed("damaged")]
    ((_, record),) = collect_records(LabelRecorder(labeler), [(video, message) for message in said])
    assert record == {"video": video.name, "error": "out of memory", "schema_version": 1}
