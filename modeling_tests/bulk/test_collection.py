"""Runs over collections: records that depend on nothing but the video, and runs that are killed and go on."""

import json
import random
import shutil
import time

import pytest
import torch
from media_files import moving_frames, write_video

from fal_hf import Timeline, VideoLabeler, Views
from fal_hf.bulk.collection import describe_run, label_collection
from fal_hf.bulk.decoding import decoding_context
from fal_hf.bulk.inputs import find_videos
from fal_hf.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 videos of different lengths, a broken one, and one of each twice by a link."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        first = write_video(folder / f"{number}_0.mp4", moving_frames(10 + 15 * number, seed=number))
        for copy in range(1, 4):
            shutil.copy(first, folder / f"{number}_{copy}.mp4")
    (folder / "broken.mp4").write_text("no video")
    (folder / "link.mp4").symlink_to("0_0.mp4")
    return folder


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


def test_a_run_is_described_by_what_its_records_depend_on(tiny_checkpoint):
    described = describe_run(VideoLabeler.from_pretrained(tiny_checkpoint), top_k=5)
    json.dumps(described)
    same = VideoLabeler.from_pretrained(tiny_checkpoint, batch_size=3)
    assert describe_run(same, top_k=5) == described
    other = VideoLabeler.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        other.model.classifier.bias[0] += 1e-6
    changed = {
        "weights": describe_run(other, top_k=5),
        "top_k": describe_run(same, top_k=3),
        "dtype": describe_run(VideoLabeler.from_pretrained(tiny_checkpoint, dtype="bfloat16"), top_k=5),
        "views": describe_run(VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(num_crops=3)), top_k=5),
        "timeline": describe_run(
            VideoLabeler.from_pretrained(
                tiny_checkpoint, views=Views(windows=True), timeline=Timeline(threshold=0.25)
            ),
            top_k=5,
        ),
        "hierarchy": describe_run(VideoLabeler.from_pretrained(tiny_checkpoint, hierarchy={"a": "x"}), top_k=5),
    }
    for name, run in changed.items():
        assert run[name] != described[name]


# ---- the whole command ----


def command(checkpoint, folder, output, *options) -> list[str]:
    return ["label", str(folder), "--model", str(checkpoint), "--output", str(output), *options]


def test_the_output_does_not_depend_on_the_workers_and_is_left_as_it_is_by_a_second_run(
    tiny_checkpoint, folder, tmp_path, capsys
):
    outputs = []
    for workers in "02":
        path = tmp_path / f"{workers}.jsonl"
        assert main(command(tiny_checkpoint, folder, path, "--workers", workers)) == 1
        assert "25 videos" not in capsys.readouterr().out
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1] and len(outputs[0].splitlines()) == 25
    journal = (tmp_path / "2.jsonl.journal").read_bytes()
    assert main(command(tiny_checkpoint, folder, path)) == 1
    assert path.read_bytes() == outputs[1] and (tmp_path / "2.jsonl.journal").read_bytes() == journal


def test_new_and_changed_videos_are_labelled_and_failed_ones_on_demand(tiny_checkpoint, folder, tmp_path):
    collection = tmp_path / "videos"
    collection.mkdir()
    for name in ("0_0.mp4", "broken.mp4"):
        shutil.copy(folder / name, collection)
    output = tmp_path / "labels.jsonl"
    run = command(tiny_checkpoint, collection, output, "--workers", "0")

    def done() -> list[str]:
        lines = (tmp_path / "labels.jsonl.journal").read_text().splitlines()[1:]
        return [json.loads(line)["key"].rsplit("/")[-1] for line in lines]

    assert main(run) == 1
    shutil.copy(folder / "1_0.mp4", collection)
    assert main(run) == 1
    assert done() == ["0_0.mp4", "broken.mp4", "1_0.mp4"]
    assert main([*run, "--retry-failed"]) == 1
    assert done()[3:] == ["broken.mp4"]
    shutil.copy(folder / "2_0.mp4", collection / "broken.mp4")
    assert main(run) == 0
    assert done()[4:] == ["broken.mp4"]
    assert len(output.read_text().splitlines()) == 3 and "error" not in output.read_text()


def test_other_options_refuse_to_go_on_and_leave_the_output(tiny_checkpoint, folder, tmp_path, capsys):
    output = tmp_path / "labels.csv"
    run = command(tiny_checkpoint, folder / "0_0.mp4", output, "--workers", "0")
    assert main(run) == 0
    before = output.read_bytes()
    assert main([*run, "--top-k", "2"]) == 2
    assert "top_k was 5, is 2" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_output(tiny_checkpoint, folder, tmp_path):
    unbroken, output = tmp_path / "unbroken.jsonl", tmp_path / "killed.jsonl"
    assert main(command(tiny_checkpoint, folder, unbroken, "--workers", "0")) == 1
    journal = tmp_path / "killed.jsonl.journal"
    moments = random.Random(0)
    kills = 0
    for workers in [0, 1, 2] * 10:
        before = journal.read_bytes() if journal.exists() else b""
        run = command(tiny_checkpoint, folder, output, "--workers", str(workers))
        process = decoding_context().Process(target=main, args=(run,))
        process.start()
        enough = len(before) + moments.randrange(1, 1200)
        while process.is_alive() and not (journal.exists() and journal.stat().st_size >= enough):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        if not process.is_alive():
            break
        process.kill()
        process.join()
        kills += 1
        assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert kills >= 5
    assert main(command(tiny_checkpoint, folder, output, "--workers", "0")) == 1
    assert output.read_bytes() == unbroken.read_bytes()
    keys = [json.loads(line)["key"] for line in journal.read_text().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == 25
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.jsonl{suffix}" for name in ("unbroken", "killed") for suffix in ("", ".journal")
    }
