"""`fal train` and `fal evaluate`, run as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from video_classification_files import CLASSES, write_class_folders

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

from fal_hf.cli import main


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = write_class_folders(tmp_path_factory.mktemp("clips"), per_class=8)
    (folder / "dark" / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def run_folder(clips, tmp_path_factory) -> Path:
    """The output folder of a short training by a recipe."""
    output = tmp_path_factory.mktemp("run")
    options = ["--train_dir", str(clips), "--output_dir", str(output), "--train_val_split", "0.25"]
    assert main(["train", "small_set", *options, "--max_unreadable_share", "0.1", "--max_steps", "1", "--use_cpu"]) == 0
    return output


def printed_commands(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.startswith("  fal ")]


def test_training_and_evaluation_print_commands_that_work(clips, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--train_dir", str(clips), "--output_dir", "mine", "--train_val_split", "0.25", "--layer_decay", "0.5"]
    options += ["--max_unreadable_share", "0.1", "--max_steps", "1", "--use_cpu"]
    assert main(["train", "small_set", *options]) == 0
    printed = capsys.readouterr().out
    assert "1 of 17 clips left out as unreadable" in printed
    evaluation, labeling = printed_commands(printed)
    assert labeling[:4] == ["fal", "label", "--model", "mine/model"]
    assert main([*labeling[1:-1], str(clips / "dark" / "0.mp4")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] in CLASSES
    assert main([*evaluation[1:], "--num_clips", "1", "3", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "written to runs/evaluation/model" in printed and "0 of 5 clips left out" not in printed
    (first, second) = json.loads(Path("runs/evaluation/model/evaluation.json").read_text())["results"]
    assert (first["num_clips"], second["num_clips"]) == (1, 3)
    assert f"{second['accuracy']:.3f}" in printed and all(name in printed for name in CLASSES)
