"""Names of files that are no ASCII, or no text at all, under a locale that knows ASCII alone: all of the command."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from media_files import moving_frames, write_video
from pyarrow import parquet
from warm_python import WarmPython

# No byte beyond ASCII has a meaning, and none that cannot be printed is left out in silence.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
# In the order in which a folder is gone through there; the second is no video.
NAMES = [b"a.mp4", b"broken-\xff.mp4", b"clip-\xff.mp4", b"z.mp4", "é.mp4".encode()]
PRINTED = ["a.mp4", "broken-\\udcff.mp4", "clip-\\udcff.mp4", "z.mp4", "\\udcc3\\udca9.mp4"]


@pytest.fixture(scope="module")
def python():
    with WarmPython({**ASCII, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}) as python:
        yield python


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("names") / "videos"
    folder.mkdir()
    first = write_video(folder / "a.mp4", moving_frames(10))
    try:
        for name in NAMES[2:]:
            shutil.copy(first, folder / os.fsdecode(name))
        (folder / os.fsdecode(NAMES[1])).write_text("no video")
    except OSError as error:
        pytest.skip(f"a file system of text alone: {error}")
    return folder


@pytest.fixture
def fal(python, videos, tiny_checkpoint, tmp_path):
    """Runs a command of the tiny model on the videos, in a folder of its own; returns status, output and errors."""
    (tmp_path / "videos").symlink_to(videos)

    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        model = ["--model", str(tiny_checkpoint), "--top-k", "1"]
        process = python.run(["fal", command, *arguments, *model], cwd=tmp_path)
        assert process.stdout.isascii() and process.stderr.isascii()
        return process.returncode, process.stdout, process.stderr

    return run


def bytes_of(record: dict) -> bytes:
    """The name of the file that a record is of, as the system has it."""
    return os.fsencode(os.path.basename(record["video"]))


@pytest.mark.parametrize("options", [[], ["--timeline", "--threshold", "0.1", "--hysteresis", "0"]])
def test_a_table_shows_every_name(fal, options):
    status, output, errors = fal("label", "videos", *options)
    names = [line for line in output.splitlines() if not line.startswith(" ")]
    assert (status, names, errors) == (1, [f"videos/{name}" for name in PRINTED], "")
    assert f"  failed: videos/{PRINTED[1]}: not a video" in output


def test_json_holds_names_that_programs_open(fal):
    status, output, _ = fal("label", "videos", "--json")
    records = [json.loads(line) for line in output.splitlines()]
    assert (status, [bytes_of(record) for record in records]) == (1, NAMES)


def test_a_run_is_gone_on_with(fal, tmp_path):
    written = []
    for _ in range(2):
        status, _, errors = fal("label", "videos", "--output", "labels.jsonl", "--workers", "0")
        assert (status, errors) == (1, "fal: labels.jsonl: 4 videos labeled, 1 failed\n")
        written.append([(tmp_path / f"labels.jsonl{suffix}").read_bytes() for suffix in ("", ".journal")])
    assert written[0] == written[1]
    assert [bytes_of(json.loads(line)) for line in written[0][0].splitlines()] == NAMES


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_other_outputs_are_written(fal, tmp_path, suffix):
    output = tmp_path / f"labels.{suffix}"
    status, _, errors = fal("label", "videos", "--output", output.name, "--workers", "0")
    assert (status, errors) == (1, f"fal: {output.name}: 4 videos labeled, 1 failed\n")
    text = output.read_text(encoding="utf-8") if suffix != "parquet" else ""
    if suffix == "json":
        assert [bytes_of(task["data"]) for task in json.loads(text)] == NAMES
    else:
        rows = csv.DictReader(text.splitlines()) if suffix == "csv" else parquet.read_table(output).to_pylist()
        assert [row["video"] for row in rows] == [f"videos/{name}" for name in PRINTED]


def test_subtitles_have_the_names_of_their_videos(fal, tmp_path):
    status, _, errors = fal("label", "videos", "--output", "{name}.vtt", "--workers", "0")
    assert (status, errors) == (1, "fal: 5 files: 4 videos labeled, 1 failed\n")
    files = {os.fsencode(path.name) for path in tmp_path.glob("*.vtt")}
    assert files == {name.replace(b".mp4", b".vtt") for name in NAMES}
    assert f"NOTE failed: videos/{PRINTED[1]}" in (tmp_path / os.fsdecode(b"broken-\xff.vtt")).read_text()


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.jsonl"])
def test_manifests_in_utf8_or_bytes_name_files(fal, tmp_path, name):
    names = [b"videos/" + each for each in (NAMES[2], NAMES[4])]
    lines = {
        "list.txt": names,
        "list.csv": [b"video", *names],
        "list.jsonl": [b'{"video": "videos/clip-\\udcff.mp4"}', '{"video": "videos/é.mp4"}'.encode()],
    }
    (tmp_path / name).write_bytes(b"\n".join([*lines[name], b""]))
    status, output, _ = fal("label", "--manifest", name, "--json")
    assert (status, [bytes_of(json.loads(line)) for line in output.splitlines()]) == (0, [NAMES[2], NAMES[4]])


def test_a_watched_file_may_have_any_name(fal):
    given = [b"videos/" + name for name in (NAMES[2], NAMES[4])]
    status, output, _ = fal("watch", *(name.decode("ascii", "surrogateescape") for name in given))
    sources = {os.fsencode(json.loads(line)["source"]) for line in output.splitlines()}
    assert (status, sources) == (0, set(given))


def test_wrong_usage_is_told(fal):
    status, _, errors = fal("label", "videos", "--output", "\udcc3\udca9-\udcff")
    assert status == 2 and errors.startswith("fal: \\udcc3\\udca9-\\udcff: expected a suffix among")


@pytest.mark.parametrize("command", ["label", "watch", "train", "evaluate", "convert"])
def test_help_is_printed(python, tmp_path, command):
    process = python.run(["fal", command, "--help"], cwd=tmp_path)
    assert process.returncode == 0 and process.stdout.startswith(f"usage: fal {command}")
