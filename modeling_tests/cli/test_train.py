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


def printed_commands(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.startswith("  fal ")]


def test_training_and_evaluation_print_commands_that_work(clips, tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--train_dir", str(clips), "--output_dir", "mine", "--train_val_split", "0.25", "--max_steps", "1"]
    options += ["--model_name_or_path", str(tiny_checkpoint), "--max_unreadable_share", "0.1", "--use_cpu"]
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


def test_the_clips_of_a_run_are_those_that_can_be_read(clips, tiny_checkpoint, tmp_path):
    options = ["--train_dir", str(clips), "--output_dir", str(tmp_path), "--train_val_split", "0", "--max_steps", "1"]
    options += ["--model_name_or_path", str(tiny_checkpoint), "--max_unreadable_share", "0.1", "--use_cpu"]
    assert main(["train", *options]) == 0
    paths = [json.loads(line)["path"] for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    assert len(paths) == 16 and not any("text.mp4" in path for path in paths)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--output_dir", "run"], "expected clips, found none"),
        (["train", "small_sets", "--output_dir", "run"], "expected a recipe, few_shots, kinetics, long_video, small_set"),
        (["train", "--train_dir", "nowhere", "--output_dir", "run"], "expected a folder with a folder of clips"),
        (["train", "--train_dir", "clips", "--horizontal_flip", "2"], "--horizontal_flip: expected a probability"),
        (["evaluate", "--model_name_or_path", "nowhere", "--test_dir", "clips"], "of a classifier, got nowhere"),
        (["evaluate", "--model_name_or_path", "nowhere", "--split", "dev"], "--split: expected one of train"),
    ],
)
def test_wrong_arguments_are_a_message_of_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("fal: ") and message in errors and errors.count("\n") == 1


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_has_every_option_under_both_spellings(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert caught.value.code == 0 and f"usage: fal {command}" in printed
    assert "--train_dir" in printed and "--train-dir" in printed


PROBE = """
import sys
from fal_hf.cli import train, evaluate
print(sorted({"torch", "transformers", "accelerate", "sklearn"} & set(sys.modules)))
"""


def test_the_modules_of_the_commands_import_nothing_heavy():
    """`fal --help` imports them."""
    program = f"import sys; sys.argv = ['fal']\n{PROBE}"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "accelerate" not in finished.stdout and "torch" not in finished.stdout


def test_what_the_extra_would_bring_is_named():
    program = "import sys; sys.modules['accelerate'] = None\nfrom fal_hf.cli import main\nsys.exit(main(['train']))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    expected = "fal: fal_hf.training: expected accelerate to be installed, run `pip install fal-hf[training]`\n"
    assert finished.stderr == expected
