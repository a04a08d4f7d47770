"""Damaged files: they are made alike each time, what they come to is told apart, and the command takes them all."""

import os
import signal
import sys
import time
from collections import Counter

import pytest
from media_files import moving_frames, write_video
from tqdm import tqdm

if sys.platform == "win32":
    pytest.skip("limits, signals and pipes of POSIX", allow_module_level=True)

import fuzz
from fuzz import OneProcess, Outcome

from fal_hf import VideoLabeler
from fal_hf.bulk.collection import label_collection
from fal_hf.bulk.inputs import find_videos
from fal_hf.labeling.views import ViewReader


class CrashingReader(ViewReader):
    """Ends its process, as a decoder with a defect might."""

    def open(self, video, **options):
        os.kill(os.getpid(), signal.SIGSEGV)


def call(arguments: list[str]) -> Outcome:
    if arguments == ["crash"]:
        os.kill(os.getpid(), signal.SIGSEGV)
    if arguments == ["hang"]:
        time.sleep(60)
    return Outcome("labeled")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return fuzz.Samples(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("kind", fuzz.MAKERS)
def test_a_file_of_a_seed_is_always_the_same_and_unlike_others(samples, tmp_path, kind):
    made = []
    for number, (seed, index) in enumerate([(0, 0), (0, 0), (0, 1), (0, 2), (1, 0)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        path, _ = fuzz.MAKERS[kind](samples, folder, fuzz.generator(kind, seed, index))
        made.append((path.name, path.read_bytes()))
    assert made[0] == made[1] and len(set(made)) == 4


def test_every_mutation_changes_a_file(samples):
    whole = samples.videos[0].read_bytes()
    for mutation in fuzz.BYTE_MUTATIONS:
        made = {mutation(whole, fuzz.generator("videos", 0, index)) for index in range(20)}
        assert len(made) > 15 and whole not in made, mutation.__name__


def test_a_damaged_video_is_of_any_folder(samples, tmp_path):
    for name in ("few", "many"):
        (tmp_path / name).mkdir()
    (tmp_path / "few" / "a.mp4").symlink_to(samples.videos[0])
    for number in range(9):
        (tmp_path / "many" / f"{number}.mkv").symlink_to(samples.videos[1])
    media = fuzz.videos_by_folder(tmp_path)
    made = [fuzz.make_video(0, index, media, tmp_path) for index in range(40)]
    again = fuzz.make_video(0, 7, media, tmp_path / "few")
    assert again.read_bytes() == made[7].read_bytes()
    assert 10 < sum(path.suffix == ".mp4" for path in made) < 30


def test_the_command_tells_videos_that_are_good_broken_and_hang(samples, tmp_path):
    write_video(tmp_path / "good.mp4", moving_frames(10))
    (tmp_path / "broken.mp4").write_text("no video")
    os.mkfifo(tmp_path / "pipe.mp4")
    with tqdm(disable=True) as bar:
        outcomes, peak = fuzz.label_videos(tmp_path, samples.checkpoint, timeout_seconds=2.0, bar=bar)
    kinds = {name.rpartition("/")[2]: outcome.kind for name, outcome in outcomes.items()}
    assert kinds == {"good.mp4": "labeled", "broken.mp4": "refused", "pipe.mp4": "hung"}
    assert peak > 50 * 2**20 or sys.platform != "linux"


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        ("echo Traceback >&2; exit 1", "traceback", "Traceback"),
        ("kill -s SEGV $$", "crashed", str(-int(signal.SIGSEGV))),
        ("sleep 60", "hung", ""),
    ],
)
def test_a_command_that_fails_is_the_outcome_of_its_videos(tmp_path, monkeypatch, script, kind, reason):
    command = tmp_path / "python"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(command))
    monkeypatch.setattr(fuzz, "STARTING_SECONDS", 0.5)
    (tmp_path / "a.mp4").touch()
    with tqdm(disable=True) as bar:
        outcomes, _ = fuzz.label_videos(tmp_path, tmp_path, timeout_seconds=0.1, bar=bar)
    (outcome,) = outcomes.values()
    assert outcome.kind == kind and reason in outcome.reason


def test_a_video_that_ends_its_worker_has_crashed(samples):
    labeler = VideoLabeler.from_pretrained(samples.checkpoint, device="cpu")
    labeler.reader.__class__ = CrashingReader
    ((_, record),) = label_collection(labeler, find_videos([str(samples.videos[0])]), num_workers=1)
    assert fuzz.outcome_of_record(record).kind == "crashed"


def test_a_process_that_hangs_or_crashes_is_replaced():
    with OneProcess(call, seconds=2.0) as process:
        kinds = [process.run([what]).kind for what in ("go on", "hang", "go on", "crash", "go on")]
    assert kinds == ["labeled", "hung", "labeled", "crashed", "labeled"]


@pytest.mark.parametrize(
    ("status", "output", "errors", "kind"),
    [
        (0, '{"video": "a.mp4", "labels": []}\n', "", "labeled"),
        (1, '{"video": "a.mp4", "error": "a.mp4: is empty"}\n', "", "refused"),
        (1, '{"video": "a", "error": "a: is empty"}\n{"video": "b", "labels": []}\n', "", "labeled"),
        (1, '{"video": "a.mp4", "error": "a.mp4: KeyError: 3"}\n{"video": "b", "labels": []}\n', "", "unclear"),
        (2, "", "fal: a.csv: expected a video at least\n", "refused"),
        (2, "", "fal: KeyError: 3\n", "unclear"),
        (2, "", "UserWarning: beware\nfal: a.csv: expected a video at least\n", "unclear"),
    ],
)
def test_what_a_command_prints_tells_what_its_file_came_to(status, output, errors, kind, monkeypatch):
    def fal(arguments):
        print(output, end="")
        print(errors, end="", file=sys.stderr)
        return status

    monkeypatch.setattr(fuzz, "fal", fal)
    assert fuzz.run_command([]).kind == kind


def test_an_error_that_nobody_catches_is_a_traceback(monkeypatch):
    monkeypatch.setattr(fuzz, "fal", lambda arguments: {}["labels"])
    outcome = fuzz.run_command([])
    assert outcome.kind == "traceback" and outcome.reason.endswith("KeyError: 'labels'")


def test_a_table_has_reasons_without_names_and_numbers():
    outcomes = Counter(
        {
            Outcome("labeled"): 3,
            Outcome("refused", "fal: /tmp/x1/a b.csv: line 3: Expecting ',' delimiter: column 2 (char 17)"): 2,
            Outcome("refused", "fal: /tmp/x2/c.csv: line 14: Expecting ':' delimiter: column 0 (char 1)"): 1,
            Outcome("hung", "took longer than 60 s"): 1,
        }
    )
    lines = fuzz.format_table("manifests", outcomes).splitlines()
    assert lines[0] == "| manifests | 7 |"
    assert "| **labeled** | 3 |" in lines and "| **hung** | 1 |" in lines and "| **crashed** | 0 |" in lines
    assert "| FILE: line N: Expecting '...' delimiter: column N (...) | 3 |" in lines


def test_what_fails_is_kept_with_its_reason_and_the_exit_status_tells(samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz.OneProcess, "run", lambda self, arguments: Outcome("traceback", "KeyError: 3"))
    monkeypatch.setattr(
        sys, "argv", ["fuzz.py", "hierarchies", "--seed", "5", "--only", "7", "--output", str(tmp_path)]
    )
    assert fuzz.main() == 1
    assert "KeyError: 3" in capsys.readouterr().out
    kept = tmp_path / "hierarchies" / "5-7-hierarchy.json"
    again, _ = fuzz.make_hierarchy(samples, tmp_path, fuzz.generator("hierarchies", 5, 7))
    assert kept.read_bytes() == again.read_bytes()
    assert (tmp_path / "hierarchies" / "5-7-hierarchy.json.txt").read_text() == "traceback\nKeyError: 3\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["videos", *fuzz.MAKERS])
def test_no_damaged_file_is_more_than_the_command_can_take(kind, request, tmp_path):
    media = request.getfixturevalue("media") if kind == "videos" else tmp_path
    outcomes = fuzz.fuzz(kind, 0, range(200), media=media, output=tmp_path)
    assert outcomes.total() == 200
    assert not [outcome for outcome in outcomes if outcome.kind in fuzz.BAD]
