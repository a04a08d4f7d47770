"""What `fal` answers at once: help, wrong usage and files that are not there need neither model nor torch."""

import json
import subprocess
import sys

import pytest

# The program that pip installs is named `fal`; this one says at the end what it has imported.
PROGRAM = """
import json, sys
from fal_hf.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as exit_:
    status = exit_.code
names = {"av", "numpy", "torch", "transformers"}
print(json.dumps([status, sorted(names & sys.modules.keys())]))
"""


@pytest.fixture
def fal(tmp_path):
    """Runs `fal` in an empty folder: exit status, what it has imported, what it has printed."""
    program, folder = tmp_path / "fal", tmp_path / "folder"
    program.write_text(PROGRAM)
    folder.mkdir()

    def run(*arguments: str) -> tuple[int, list[str], str]:
        finished = subprocess.run(
            [sys.executable, program, *arguments], capture_output=True, text=True, check=True, cwd=folder
        )
        *output, last = finished.stdout.splitlines()
        return *json.loads(last), "\n".join([*output, finished.stderr])

    run.folder = folder
    return run


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--help"], "label cameras and streams as they come"),
        (["label", "--help"], "--retry-failed"),
        (["watch", "--help"], "--reconnect"),
        (["--version"], "fal 0."),
    ],
)
def test_help_and_version_import_nothing(fal, arguments, answer):
    status, imported, printed = fal(*arguments)
    assert (status, imported) == (0, [])
    assert answer in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["label"], "expected videos to label, or --manifest FILE"),
        (["label", "a.mp4", "--crops", "2"], "argument --crops: invalid choice"),
        (["label", "a.mp4", "--timeline", "--threshold", "7"], "threshold: expected a number in (0, 1], got 7.0"),
        (["label", "a.mp4", "--scales", "9"], "scales: expected one or more numbers above 0 and up to 4"),
        (["label", "a.mp4", "--timeline", "--hop", "-1"], "hop_seconds: expected a number above 0, got -1.0"),
        (["label", "a.mp4", "--hop", "3"], "expected --timeline with --window, --hop"),
        (["label", "a.mp4", "--hierarchy", "nowhere.json"], "nowhere.json"),
        (["label", "a.mp4", "--hierarchy", "broken.json"], "broken.json: expected an object of label and parent"),
        (["label", "a.mp4", "--output", "labels.xlsx"], "expected a suffix among .jsonl"),
        (
            ["label", "a.mp4", "b.mp4", "--output", "labels.vtt"],
            "expected {name} in it, one file for each",
        ),
        (["label", "empty"], "expected a video at least, found none"),
        (["label", "--manifest", "broken.csv"], "broken.csv: line 2: expected one of video, path"),
        (["label", "--manifest", "nowhere.txt"], "nowhere.txt"),
        (["watch", *["a.ts"] * 9], "expected 1 to 8 sources, got 9"),
        (["watch", "a.ts", "--window", "nan"], "expected a positive window and hop, got a window of nan seconds"),
    ],
)
def test_wrong_usage_is_told_without_torch(fal, arguments, message):
    (fal.folder / "empty").mkdir()
    (fal.folder / "broken.csv").write_text("clip\na.mp4\n")
    (fal.folder / "broken.json").write_text('["pan"]')
    status, imported, printed = fal(*arguments)
    assert status == 2
    assert {"torch", "transformers"}.isdisjoint(imported)
    assert message in printed and "Traceback" not in printed


def test_videos_none_of_which_is_there_need_no_torch(fal):
    status, imported, printed = fal("label", "gone.mp4", "sub/lost.mkv")
    assert status == 1
    assert {"torch", "transformers"}.isdisjoint(imported)
    expected = "gone.mp4\n  failed: gone.mp4: no such file\nsub/lost.mkv\n  failed: sub/lost.mkv: no such file\n"
    assert printed == expected
    _, _, printed = fal("label", "gone.mp4", "--json")
    assert json.loads(printed) == {"video": "gone.mp4", "error": "gone.mp4: no such file", "schema_version": 1}


def test_a_file_of_labels_for_videos_none_of_which_is_there_needs_no_torch(fal):
    status, imported, printed = fal("label", "gone.mp4", "--output", "labels.csv")
    assert status == 1
    assert {"torch", "transformers"}.isdisjoint(imported)
    assert printed.strip() == "fal: labels.csv: 0 videos labeled, 1 failed"
    assert "gone.mp4: no such file" in (fal.folder / "labels.csv").read_text()
