"""Records of a collection: they depend on nothing but the video."""

import pytest
import torch
from media_files import write_collection

from fal_hf import VideoLabeler
from fal_hf.bulk.collection import label_collection
from fal_hf.bulk.inputs import find_videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("videos"))


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_records_are_those_of_the_labeler_whatever_the_workers(tiny_checkpoint, folder, num_workers):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint)
    videos = find_videos([str(folder)])
    found = {video.name: record for video, record in label_collection(labeler, videos, num_workers=num_workers)}
    assert len(found) == 25
    for name, record in found.items():
        assert record == ({**record, "error": record["error"]} if "broken" in name else labeler(name).to_dict())


def test_a_model_that_fails_on_a_video_does_not_stop_the_others(tiny_checkpoint, folder):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint)
    score, calls = labeler.score, []

    def score_or_fail(batch):
        calls.append(batch)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("out of memory")
        return score(batch)

    labeler.score = score_or_fail
    videos = find_videos([str(folder / "?_0.mp4")])
    records = [record for _, record in label_collection(labeler, videos)]
    assert [("error" in record) for record in records] == [False, True, False, False, False, False]
    assert records[1]["error"] == f"{videos[1].name}: OutOfMemoryError: out of memory"
