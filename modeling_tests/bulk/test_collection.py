"""Records of a collection: they depend on nothing but the video."""

import pytest
import torch
from media_files import moving_frames, write_collection, write_video

from fal_hf import VideoLabeler, Views
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


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stretches_of_a_manifest_are_labeled_like_videos_of_their_own(tiny_checkpoint, tmp_path, num_workers):
    frames, options = moving_frames(40), {"codec": "ffv1", "pixel_format": "bgr0"}
    write_video(tmp_path / "whole.mkv", frames, **options)
    write_video(tmp_path / "part.mkv", frames[10:30], **options)
    rows = ["video,start_seconds,end_seconds", "whole.mkv,0.4,1.2", "part.mkv,,", "whole.mkv,5,6"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    views = Views(windows=True, window_seconds=0.4)
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=views)
    videos = find_videos([], manifest=str(tmp_path / "list.csv"))
    records = {video.key: record for video, record in label_collection(labeler, videos, num_workers=num_workers)}
    stretch, part, behind = (records[video.key] for video in videos)
    assert stretch["labels"] == part["labels"] and part.keys() == stretch.keys() - {"start_seconds", "end_seconds"}
    assert (stretch["start_seconds"], stretch["end_seconds"]) == pytest.approx((0.4, 1.2))
    assert [window["start_seconds"] for window in stretch["windows"]] == pytest.approx([0.4, 0.8])
    assert [window["labels"] for window in stretch["windows"]] == [window["labels"] for window in part["windows"]]
    assert behind["error"].endswith("whole.mkv: ends at 1.600 s, the clip begins at 5.0 s")
    assert (behind["start_seconds"], behind["end_seconds"]) == (5.0, 6.0)


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
