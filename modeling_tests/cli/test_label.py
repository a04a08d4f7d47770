"""The `fal` command, run as a user runs it."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from media_files import moving_frames, write_video
from pseudo_terminal import terminal

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification
from fal_hf.bulk import labeling_run
from fal_hf.cli import main
from fal_hf.labeling import label_files


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


def test_patches_adapt_and_a_journal_knows_it(tiny_checkpoint, videos, tmp_path, capsys):
    command = ["label", videos[0], videos[2], "--model", str(tiny_checkpoint)]
    scores = []
    for share in ([], ["--adaptive-patches", "0.25"], ["--adaptive-patches", "1"]):
        assert main([*command, "--json", *share]) == 0
        scores.append([json.loads(line)["labels"] for line in capsys.readouterr().out.splitlines()])
    assert scores[0] == scores[2] != scores[1]
    output = ["--output", str(tmp_path / "labels.jsonl"), "--workers", "0"]
    assert main([*command, *output, "--adaptive-patches", "0.25"]) == 0
    assert [json.loads(line)["labels"] for line in (tmp_path / "labels.jsonl").open()] == scores[1]
    for share in ([], ["--adaptive-patches", "0.5"]):
        assert main([*command, *output, *share]) == 2
        assert "adaptive_patches" in capsys.readouterr().err


def test_patches_that_do_not_change_are_left_out_and_a_journal_knows_it(tiny_checkpoint, videos, tmp_path, capsys):
    folder = tmp_path / "joint"
    shutil.copytree(tiny_checkpoint, folder)
    config = FALConfig.from_pretrained(tiny_checkpoint, attention_type="joint_space_time")
    FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint, config=config).save_pretrained(folder)
    command = ["label", videos[0], videos[2], "--model", str(folder)]
    scores = []
    for change in ([], ["--static-patches", "2"], ["--static-patches", "0"]):
        assert main([*command, "--json", *change]) == 0
        scores.append([json.loads(line)["labels"] for line in capsys.readouterr().out.splitlines()])
    assert scores[0] == scores[2] != scores[1]
    output = ["--output", str(tmp_path / "labels.jsonl"), "--workers", "0"]
    assert main([*command, *output, "--static-patches", "2"]) == 0
    assert main([*command, *output]) == 2
    assert "adaptive_patches" in capsys.readouterr().err


def test_a_missing_model_is_a_message_and_not_a_traceback(videos, tmp_path, capsys):
    assert main(["label", videos[0], "--model", str(tmp_path / "nowhere")]) == 2
    output = capsys.readouterr()
    assert "cannot load the model" in output.err and "Traceback" not in output.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["label", "a.mp4", "--top-k", "0"],
        ["label", "--dtype", "int8"],
        ["label", "a.mp4", "--crops", "2"],
        ["label", "a.mp4", "--scales", "1,x"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
def test_the_command_shows_progress_on_standard_error_only(tiny_checkpoint, videos, capsys):
    with terminal() as read:
        assert main(["label", *videos, "--model", str(tiny_checkpoint), "--json"]) == 1
        shown = read()
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 3
    assert "3/3" in shown and "failed=1" in shown and "Traceback" not in shown


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


def test_views_and_a_timeline_show_in_the_table(tiny_checkpoint, videos, tmp_path, capsys):
    hierarchy = tmp_path / "hierarchy.json"
    hierarchy.write_text('{"a": "vowel", "e": "vowel", "b": "consonant"}')
    options = ["--crops", "3", "--scales", "paper", "--timeline", "--window", "0.2", "--hop", "0.1"]
    options += ["--threshold", "0.02", "--hysteresis", "0", "--min-length", "0.3", "--hierarchy", str(hierarchy)]
    assert main(["label", videos[0], "--model", str(tiny_checkpoint), "--top-k", "2", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[3:5]} == {"vowel", "consonant"}
    assert any(line.startswith("  0:00:00.0 - 0:00:00.8  vowel") for line in lines[5:])


def test_json_has_windows_and_segments_with_a_timeline(tiny_checkpoint, videos, capsys):
    options = ["--timeline", "--window", "0.2", "--threshold", "0.02", "--hysteresis", "0", "--json"]
    assert main(["label", videos[0], "--model", str(tiny_checkpoint), *options]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema_version"] == 1 and record["num_clips"] == len(record["windows"]) == 4
    assert set(record["segments"][0]) == {"label", "start_seconds", "end_seconds", "score", "peak"}
    assert record["segments"][-1]["end_seconds"] == record["duration_seconds"] == pytest.approx(0.8)


def test_windows_that_were_reused_are_told_and_part_of_the_run(tiny_checkpoint, tmp_path, capsys):
    frames = moving_frames(20)
    still = str(write_video(tmp_path / "still.mp4", [*frames[:10], *[frames[9]] * 20]))
    run = ["label", still, "--model", str(tiny_checkpoint), "--timeline", "--window", "0.2", "--reuse-static"]
    told = "fal: 3 of 6 windows (50%) took over the scores of an earlier one"
    assert main([*run, "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert record["num_reused_windows"] == 3 and told in printed.err
    output = str(tmp_path / "labels.jsonl")
    for workers in ("0", "1"):
        assert main([*run, "--output", output, "--workers", workers]) == 0
        printed = capsys.readouterr()
        assert (told in printed.err) is (workers == "0")  # the second run has nothing left to do
    assert json.loads((tmp_path / "labels.jsonl").read_text()) == record
    for other in (run[:-1], [*run, "--static-levels", "5"]):
        assert main([*other, "--output", output]) == 2
        assert "reuse_static" in capsys.readouterr().err


def test_an_output_takes_the_format_of_its_suffix(tiny_checkpoint, videos, tmp_path, capsys):
    for name in ("labels.csv", "labels.parquet", "labels.json", "labels.jsonl", "{name}.vtt"):
        run = ["label", *videos, "--model", str(tiny_checkpoint), "--output", str(tmp_path / name), "--workers", "0"]
        assert main(run) == 1
        assert "2 videos labeled, 1 failed" in capsys.readouterr().err
    written = {path.name for path in tmp_path.iterdir() if path.suffix != ".journal"}
    assert written == {"labels.csv", "labels.parquet", "labels.json", "labels.jsonl", "a.vtt", "b.vtt", "broken.vtt"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label"], "expected videos to label, or --manifest FILE"),
        (["label", "nothing/*.mp4"], "expected a video at least, found none"),
        (["label", "--manifest", "nowhere.txt"], "nowhere.txt"),
        (["label", "a.mp4", "--output", "labels.xlsx"], "expected a suffix among .jsonl"),
        (
            ["label", "a.mp4", "b.mp4", "--output", "labels.vtt"],
            "expected {name} in it, one file for each of 2 videos",
        ),
        (["label", "a.mp4", "--window", "3"], "expected --timeline with --window"),
        (["label", "a.mp4", "--timeline", "--threshold", "3"], "threshold: expected a number in (0, 1], got 3.0"),
        (["label", "a.mp4", "--hierarchy", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fal: ") and message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_processes_of_a_launcher_share_a_collection(tiny_checkpoint, videos, tmp_path):
    run = ["label", *videos, "--model", str(tiny_checkpoint), "--device", "cpu", "--workers", "0", "--output"]
    assert main([*run, str(tmp_path / "alone.jsonl")]) == 1
    # What `accelerate launch` starts for several GPUs.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "fal_hf.cli"]
    # It would set one thread for each process, and by that the rounding of matrix products on some processors.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.run(
        [*launch, *run, str(tmp_path / "shared.jsonl")], capture_output=True, text=True, check=False, env=environment
    )
    assert "2 videos labeled, 1 failed" in process.stderr, process.stderr
    assert (tmp_path / "shared.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    journals = [(tmp_path / f"shared.jsonl.journal{suffix}").read_text() for suffix in ("", ".1")]
    assert sorted(len(journal.splitlines()) for journal in journals) == [2, 3]


@pytest.mark.parametrize(
    "option",
    [["--timeout", "nan"], ["--timeout", "-1"], ["--max-memory", "inf"], ["--max-memory", "0"], ["--workers", "-1"]],
)
def test_limits_that_are_no_limits_are_refused(option, videos, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["label", videos[0], *option])
    assert stop.value.code == 2
    assert f"argument {option[0]}: expected a" in capsys.readouterr().err


def test_limits_may_be_as_large_as_they_like(tiny_checkpoint, videos):
    limits = ["--workers", "1", "--timeout", "1e300", "--max-memory", "1e300"]
    assert main(["label", videos[0], "--model", str(tiny_checkpoint), *limits]) == 0


def test_wrong_usage_wins_over_videos_that_are_not_there_and_a_run_that_has_begun_needs_its_model(
    tiny_checkpoint, videos, tmp_path, capsys
):
    output = tmp_path / "labels.jsonl"
    run = ["label", "--model", str(tiny_checkpoint), "--output", str(output), "--workers", "0"]
    assert main([*run, videos[0]]) == 0
    before = output.read_bytes()
    assert main([*run, "gone.mp4", "--top-k", "2"]) == 2
    assert "top_k was 5, is 2" in capsys.readouterr().err and output.read_bytes() == before
    assert main([*run, "gone.mp4"]) == 1
    assert json.loads(output.read_text())["error"] == "gone.mp4: no such file"
    assert "gone.mp4" in (tmp_path / "labels.jsonl.journal").read_text()


def test_an_output_that_cannot_be_put_in_its_place_is_one_line(tiny_checkpoint, videos, tmp_path, capsys):
    (tmp_path / "labels.jsonl").mkdir()
    run = ["label", videos[0], "--model", str(tiny_checkpoint), "--output", str(tmp_path / "labels.jsonl")]
    assert main([*run, "--workers", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fal: ") and "labels.jsonl" in line


@contextmanager
def largest_file(num_bytes: int):
    """No file of this process grows beyond so many bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.csv", "labels.parquet", "labels.json", "{name}.vtt"])
def test_a_disk_that_is_full_is_one_line_and_with_space_the_command_goes_on(
    tiny_checkpoint, videos, tmp_path, capsys, name
):
    command = ["label", *videos, "--model", str(tiny_checkpoint), "--workers", "0", "--output"]
    assert main([*command, str(tmp_path / "once" / name)]) == 1
    once = {path.name: path.read_bytes() for path in (tmp_path / "once").iterdir()}
    journal, output = once.pop(f"{name}.journal"), tmp_path / "full" / name
    written, num_lines = output.with_name(f"{name}.journal"), []
    for room in (len(journal) // 2, len(journal) - 1):
        capsys.readouterr()
        with largest_file(room):
            assert main([*command, str(output)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"File too large: '{written}'" in line
        assert line.endswith(f"the same command goes on where {written} ends")
        num_lines.append(written.read_bytes().count(b"\n"))
        assert [path.name for path in output.parent.iterdir()] == [written.name]
    assert num_lines == sorted(num_lines) and num_lines[1] == 3
    assert main([*command, str(output)]) == 1
    assert {path.name: path.read_bytes() for path in output.parent.iterdir() if path != written} == once
    assert written.read_bytes() == journal


def test_an_output_that_has_no_room_leaves_the_journal(tiny_checkpoint, videos, tmp_path, monkeypatch, capsys):
    output, replace = tmp_path / "labels.jsonl", os.replace
    run = ["label", videos[0], "--model", str(tiny_checkpoint), "--output", str(output), "--workers", "0"]

    def refuse(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(os, "replace", refuse)
    assert main(run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"No space left on device: '{output}'; mend that, and the same command goes on" in line
    monkeypatch.setattr(os, "replace", replace)
    before = (tmp_path / "labels.jsonl.journal").read_bytes()
    assert main(run) == 0
    assert (tmp_path / "labels.jsonl.journal").read_bytes() == before and len(output.read_text().splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("words", [["label", "gone.mp4"], ["label", "gone.mp4", "--json"], ["--version"]])
def test_standard_output_that_takes_nothing_is_one_line(words):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fal_hf.cli", *words]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    (line,) = process.stderr.splitlines()
    assert process.returncode == 2 and line.startswith("fal: ") and "No space left on device" in line


def test_processes_of_a_launcher_need_an_output(videos, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["label", videos[0]]) == 2
    assert "expected --output where several processes share the videos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "option", "message"),
    [
        ("ray", ["--engine", "ray"], "engine ray: expected Ray to be installed, run `pip install fal-hf[ray]`"),
        ("pyarrow", ["--output", "a.parquet"], "a.parquet: expected pyarrow to be installed"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_labeled(videos, capsys, monkeypatch, package, option, message):
    find_spec = importlib.util.find_spec
    for module in (labeling_run, label_files):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name == package else find_spec(name))
    assert main(["label", videos[0], *option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fal: {message}")
