"""Runs over collections: in order, into files, by the function and by the command; runs that are killed and go on."""

import json
import os
import random
import shutil
import socket
import time

import pytest
from media_files import write_collection

from fal_hf import VideoLabeler
from fal_hf.bulk import labeling_run
from fal_hf.bulk.decoding import decoding_context
from fal_hf.bulk.inputs import find_videos
from fal_hf.bulk.journal import JournalError
from fal_hf.bulk.labeling_run import LabelingResult, Progress, choose_num_workers, label_in_order, label_to_file
from fal_hf.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def labeler(tiny_checkpoint):
    return VideoLabeler.from_pretrained(tiny_checkpoint)


def read_records(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_holds_the_labelers_own_records_and_progress_is_told(labeler, folder, tmp_path):
    videos = find_videos(str(folder / name) for name in ("1_0.mp4", "broken.mp4", "0_0.mp4"))
    told = []
    result = label_to_file(labeler, videos, tmp_path / "labels.jsonl", num_workers=0, on_progress=told.append)
    assert result == LabelingResult(num_labeled=2, num_failed=1, files=(tmp_path / "labels.jsonl",))
    records = read_records(tmp_path / "labels.jsonl")
    assert [records[0], records[2]] == [labeler(video.name).to_dict() for video in (videos[0], videos[2])]
    assert records[1]["video"] == videos[1].name and "broken.mp4: " in records[1]["error"]
    assert told == [Progress(num_videos=3, num_done=done, num_failed=done > 1) for done in range(4)]


def test_a_run_that_its_callback_stops_goes_on_and_says_where_it_begins(labeler, folder, tmp_path):
    videos = find_videos([str(folder / "[01]_?.mp4")])
    once = label_to_file(labeler, videos, tmp_path / "once.jsonl", num_workers=0)

    def stop_after_three(progress: Progress) -> None:
        if progress.num_done == 3:
            raise KeyboardInterrupt

    output = tmp_path / "labels.jsonl"
    with pytest.raises(KeyboardInterrupt):
        label_to_file(labeler, videos, output, num_workers=0, on_progress=stop_after_three)
    assert not output.exists()
    told = []
    result = label_to_file(labeler, videos, output, num_workers=0, on_progress=told.append)
    assert [progress.num_done for progress in told] == [3, 4, 5, 6, 7, 8]
    assert output.read_bytes() == (tmp_path / "once.jsonl").read_bytes()
    assert (result.num_labeled, result.num_failed) == (once.num_labeled, once.num_failed) == (8, 0)


def test_failures_of_an_earlier_run_count_until_they_are_tried_again(labeler, folder, tmp_path):
    videos = find_videos([str(folder / "broken.mp4"), str(folder / "0_0.mp4")])
    output = tmp_path / "labels.csv"
    first = []
    for retry_failed in (False, False, True):
        told = []
        options = {"num_workers": 0, "retry_failed": retry_failed, "on_progress": told.append}
        assert label_to_file(labeler, videos, output, **options).num_failed == 1
        first.append(told[0])
    assert first == [
        Progress(num_videos=2),
        Progress(num_videos=2, num_done=2, num_failed=1),
        Progress(num_videos=2, num_done=1),
    ]


def test_records_come_in_the_order_of_the_videos_whatever_is_done_first(labeler, folder, monkeypatch):
    videos = find_videos([str(folder / "[0-2]_0.mp4")])
    done = [(videos[place], {"video": videos[place].name, "labels": []}) for place in (1, 2, 0)]
    monkeypatch.setitem(labeling_run.ENGINES, "local", lambda recorder, videos, **options: iter(done))
    told = []
    records = label_in_order(labeler, videos, on_progress=told.append)
    assert [record["video"] for record in records] == [video.name for video in videos]
    assert [progress.num_done for progress in told] == [0, 1, 2, 3]


def test_a_labeler_is_loaded_only_where_a_video_is_there(labeler, folder, tmp_path):
    loads = []

    def load() -> VideoLabeler:
        loads.append(labeler)
        return labeler

    gone = find_videos([str(tmp_path / "gone.mp4")])
    video, output = gone[0].name, tmp_path / "labels.jsonl"
    record = {"video": video, "error": f"{video}: no such file", "schema_version": 1}
    assert list(label_in_order(load, gone)) == [record]
    assert label_to_file(load, gone, output) == LabelingResult(num_labeled=0, num_failed=1, files=(output,))
    assert loads == [] and read_records(output) == [record]
    there = [*gone, *find_videos([str(folder / "0_0.mp4")])]
    expected = [record, labeler(there[1].name).to_dict()]
    assert list(label_in_order(load, there)) == expected
    assert label_to_file(load, there, output, num_workers=0).num_labeled == 1
    assert loads == [labeler, labeler] and read_records(output) == expected


def test_what_a_run_cannot_do_is_refused_before_anything_is_written(labeler, folder, tmp_path):
    videos = find_videos([str(folder / "0_0.mp4"), str(folder / "1_0.mp4")])
    with pytest.raises(ValueError, match="expected a suffix among"):
        label_to_file(labeler, videos, tmp_path / "labels.xlsx")
    with pytest.raises(ValueError, match="one file for each of 2 videos"):
        label_to_file(labeler, videos, tmp_path / "labels.vtt")
    with pytest.raises(ValueError, match="engine: expected local or ray, got slurm"):
        label_to_file(labeler, videos, tmp_path / "labels.csv", engine="slurm")
    assert not list(tmp_path.iterdir())


def test_other_options_are_refused_by_a_journal_error(labeler, folder, tmp_path):
    videos = find_videos([str(folder / "0_0.mp4")])
    label_to_file(labeler, videos, tmp_path / "labels.csv", num_workers=0)
    with pytest.raises(JournalError, match="top_k was 5, is 2"):
        label_to_file(labeler, videos, tmp_path / "labels.csv", num_workers=0, top_k=2)


def test_workers_are_as_many_as_cores_processes_and_videos_allow(monkeypatch):
    monkeypatch.setattr(labeling_run, "available_cores", lambda: 8)
    assert choose_num_workers(100) == 8
    assert choose_num_workers(100, num_processes=3) == 2
    assert choose_num_workers(100, num_processes=20) == 1
    assert choose_num_workers(5) == 5 and choose_num_workers(0) == 0


def label_share(index: int, port: int, connection, checkpoint, folder, output) -> None:
    """One of two processes of a launcher."""
    place = {"RANK": str(index), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place)
    labeler = VideoLabeler.from_pretrained(checkpoint)
    connection.send((index, label_to_file(labeler, find_videos([str(folder)]), output, num_workers=0)))


def test_two_processes_share_a_collection_and_the_first_writes(tiny_checkpoint, labeler, folder, tmp_path):
    alone = label_to_file(labeler, find_videos([str(folder)]), tmp_path / "alone.jsonl", num_workers=0)
    context = decoding_context()
    ours, theirs = context.Pipe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = (port, theirs, tiny_checkpoint, folder, tmp_path / "shared.jsonl")
    processes = [context.Process(target=label_share, args=(index, *arguments)) for index in range(2)]
    for process in processes:
        process.start()
    results = dict(ours.recv() for _ in processes)
    for process in processes:
        process.join()
    assert results[0] == LabelingResult(num_labeled=24, num_failed=1, files=(tmp_path / "shared.jsonl",))
    assert (alone.num_labeled, alone.num_failed) == (24, 1)
    assert results[1].files == () and results[1].num_labeled + results[1].num_failed == 12
    assert (tmp_path / "shared.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


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


def test_new_and_changed_videos_are_labeled_and_failed_ones_on_demand(tiny_checkpoint, folder, tmp_path):
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
    for workers in [0, 1, 0, 2, *[0] * 20]:  # a run with workers takes seconds to start them
        before = journal.read_bytes() if journal.exists() else b""
        run = command(tiny_checkpoint, folder, output, "--workers", str(workers))
        process = decoding_context().Process(target=main, args=(run,))
        process.start()
        enough = len(before) + moments.randrange(1, 2400)
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
