"""The `fal` command, run as a user runs it."""

import json
import shutil
import subprocess
import sys

import pytest
from media_files import moving_frames, write_video

from fal_hf.cli import main


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    good = [write_video(folder / name, moving_frames(20, seed=seed)) for seed, name in enumerate(["a.mp4", "b.mkv"])]
    broken = folder / "broken.mp4"
    broken.write_text("no video")
    return [str(good[0]), str(broken), str(good[1])]


def test_a_table_is_printed_for_each_video(tiny_checkpoint, videos, capsys):
    assert main(["label", videos[0], videos[2], "--model", str(tiny_checkpoint), "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[3]] == [videos[0], videos[2]]
    assert all(line.rstrip().endswith("%") for line in lines[1:3])


def test_json_has_one_object_a_line_and_a_failed_file_does_not_stop_the_others(tiny_checkpoint, videos, capsys):
    assert main(["label", *videos, "--model", str(tiny_checkpoint), "--json", "--num-clips", "2"]) == 1
    output = capsys.readouterr()
    records = [json.loads(line) for line in output.out.splitlines()]
    assert [record["video"] for record in records] == videos
    assert "broken.mp4" in records[1]["error"] and "labels" not in records[1]
    for record in (records[0], records[2]):
        assert len(record["labels"]) == 5 and record["num_clips"] == 2
    assert "Traceback" not in output.err + output.out


def test_a_missing_model_is_a_message_and_not_a_traceback(videos, tmp_path, capsys):
    assert main(["label", videos[0], "--model", str(tmp_path / "nowhere")]) == 2
    output = capsys.readouterr()
    assert "cannot load the model" in output.err and "Traceback" not in output.err


@pytest.mark.parametrize(
    "arguments", [[], ["label"], ["label", "a.mp4", "--top-k", "0"], ["label", "--dtype", "int8"]]
)
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


def test_the_command_shows_progress_on_standard_error_only(tiny_checkpoint, videos):
    command = [sys.executable, "-m", "fal_hf.cli", "label", *videos, "--model", str(tiny_checkpoint), "--json"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert len([json.loads(line) for line in process.stdout.splitlines()]) == 3
    assert "Traceback" not in process.stderr


def test_a_damaged_checkpoint_is_a_message_and_not_a_traceback(tiny_checkpoint, videos, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    assert main(["label", videos[0], "--model", str(folder)]) == 2
    assert "cannot load the model" in capsys.readouterr().err


def test_a_reader_that_closes_early_gets_no_traceback(tiny_checkpoint, videos):
    label = f"{sys.executable} -m fal_hf.cli label {' '.join(videos * 3)} --model {tiny_checkpoint} --json"
    process = subprocess.run(f"{label} | head -n 1", shell=True, capture_output=True, text=True, check=False)
    assert len(process.stdout.splitlines()) == 1
    assert "Traceback" not in process.stderr and "Exception" not in process.stderr
