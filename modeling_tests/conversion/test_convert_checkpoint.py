"""The command `convert_checkpoint.py`: what it prints, its exit status, and what it hands on."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from foreign_checkpoints import CLASSES, HEADS, SIDE, reference_checkpoint
from safetensors.torch import load_file

from fal_hf import FALConfig
from fal_hf.conversion.checkpoint_layouts import PREPROCESSING
from fal_hf.hub import publish as hub
from fal_hf.model.attention_schemes import ATTENTION_TYPES

SCRIPT = Path(__file__).resolve().parents[2] / "convert_checkpoint.py"


@pytest.fixture(scope="module")
def command():
    """The command as a module."""
    spec = importlib.util.spec_from_file_location("convert_checkpoint", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_reference_checkpoint_is_converted_by_one_command(warm_python, tmp_path):
    torch.save(reference_checkpoint(), tmp_path / "reference.pyth")
    (tmp_path / "labels.csv").write_text("id,name\n" + "".join(f"{i},action {i}\n" for i in range(CLASSES)))
    arguments = ["reference.pyth", "--output", "fal", "--labels", "labels.csv", "--bgr", "--license", "cc-by-nc-4.0"]
    arguments += ["--num-attention-heads", str(HEADS), "--num-frames", "8", "--resize", "nearest"]
    process = warm_python.run([SCRIPT, *arguments], cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    rows = {line[:12].strip(): line[12:] for line in process.stdout.splitlines()}
    assert rows["source"] == "reference.pyth (TimeSformer reference)"
    assert rows["attention"] == "divided_space_time"
    assert rows["clip"] == f"8 frames of {SIDE} x {SIDE}, patches of 8 x 8"
    assert rows["labels"] == "6: action 0, action 1, action 2, action 3, ..."
    assert rows["resized"] == "fal.embeddings.time_embeddings"
    assert rows["pixels"].startswith("BGR, mean 0.45, std 0.225")
    difference = float(rows["compared"].split(": ")[1].split(",")[0])
    assert difference < 1e-5
    assert rows["output"] == "fal"
    assert process.stderr == ""
    config = FALConfig.from_pretrained(tmp_path / "fal")
    assert (config.num_frames, config.id2label[2]) == (8, "action 2")
    assert json.loads((tmp_path / "fal" / "preprocessor_config.json").read_text())["do_flip_channel_order"] is True
    assert "license: cc-by-nc-4.0" in (tmp_path / "fal" / "README.md").read_text()


def test_a_checkpoint_that_is_refused_ends_in_one_line_and_status_1(command, tmp_path, capsys):
    (tmp_path / "weights.pth").write_bytes(b"not a checkpoint")
    assert command.main([str(tmp_path / "weights.pth"), "--output", str(tmp_path / "fal")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("convert_checkpoint.py: ") and captured.err.count("\n") == 1
    assert os.listdir(tmp_path) == ["weights.pth"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["source"],
        ["source", "--output", "x", "--attention-type", "all"],
        ["source", "--output", "x", "--num-frames", "0"],
        ["source", "--output", "x", "--image-size", "1x2x3"],
        ["source", "--output", "x", "--image-size", "large"],
        ["source", "--output", "x", "--dtype", "int8"],
        ["source", "--output", "x", "--create-pr"],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_wrong_usage_ends_in_status_2(command, arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help_names_every_option_and_needs_no_torch():
    code = f"import sys, runpy; sys.argv = ['convert_checkpoint.py', '--help']\ntry: runpy.run_path({str(SCRIPT)!r}, "
    code += "run_name='__main__')\nfinally: assert 'torch' not in sys.modules"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    for option in (
        "--output",
        "--push-to-hub",
        "--with-code",
        "--attention-type",
        "--time-table",
        "--labels",
        "--bgr",
    ):
        assert option in process.stdout


def test_the_choices_are_those_of_the_library(command):
    choices = {action.dest: action.choices for action in command.build_parser()._actions}
    assert tuple(choices["attention_type"]) == ATTENTION_TYPES
    assert set(choices["preprocessing"]) == PREPROCESSING.keys()


def test_options_reach_the_model(command, vit_folder, tmp_path):
    output = tmp_path / "fal"
    options = ["--attention-type", "axial", "--image-size", "48x32", "--num-frames", "3", "--new-head"]
    options += ["--time-table", "normal", "--dtype", "bfloat16", "--max-shard-size", "20KB", "--with-code"]
    options += ["--preprocessing", "imagenet"]
    assert command.main([str(vit_folder), "--output", str(output), *options]) == 0
    config = FALConfig.from_pretrained(output)
    assert (config.attention_type, list(config.image_size), config.num_frames) == ("axial", [48, 32], 3)
    tensors = {name: tensor for file in output.glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert tensors["fal.embeddings.time_embeddings"].any()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert tensors["classifier.weight"].shape[0] == 2
    assert len(list(output.glob("*.safetensors"))) > 1
    assert (output / "modeling_fal.py").is_file()
    assert command.main([str(vit_folder), "--output", str(output)]) == 1
    assert command.main([str(vit_folder), "--output", str(output), "--overwrite"]) == 0
    assert FALConfig.from_pretrained(output).attention_type == "divided_space_time"


def test_the_folder_is_pushed_in_one_commit(command, vit_folder, tmp_path, monkeypatch, capsys):
    pushed = []

    def push_folder(folder, repo_id, **options):
        assert (Path(folder) / "model.safetensors").is_file()
        pushed.append((repo_id, options))
        return SimpleNamespace(pr_url=None, commit_url="https://hub/me/fal/commit/1")

    monkeypatch.setattr(hub, "push_folder", push_folder)
    output = str(tmp_path / "fal")
    options = ["--push-to-hub", "me/fal", "--private", "--revision", "dev"]
    assert command.main([str(vit_folder), "--output", output, *options]) == 0
    message = f"Converted from {vit_folder.name}"
    expected = {"private": True, "revision": "dev", "create_pr": False, "commit_message": message}
    assert pushed == [("me/fal", expected)]
    assert "pushed      https://hub/me/fal/commit/1" in capsys.readouterr().out
    assert 'from_pretrained("me/fal")' in (tmp_path / "fal" / "README.md").read_text()


def test_a_hub_id_goes_in_and_out(warm_python, shared_hub, vit_folder, tmp_path):
    for arguments in (
        [vit_folder, "--output", "first", "--push-to-hub", "someone/first"],
        ["someone/first", "--output", "second", "--push-to-hub", "someone/second", "--create-pr"],
    ):
        process = warm_python.run([SCRIPT, *arguments], cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert "\npushed      http://" in process.stdout
    (head, *_) = shared_hub.repositories["someone/first"].refs["main"].history()
    assert head.title == f"Converted from {vit_folder.name}"
    local = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert {name: file.content for name, file in head.files.items() if name != ".gitattributes"} == local
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert "base_model: someone/first" in (tmp_path / "second" / "README.md").read_text()


def test_a_push_that_fails_keeps_the_folder_and_ends_in_status_1(command, vit_folder, tmp_path, monkeypatch, capsys):
    def push_folder(*args, **options):
        raise ValueError("me/fal: expected a private repository")

    monkeypatch.setattr(hub, "push_folder", push_folder)
    assert command.main([str(vit_folder), "--output", str(tmp_path / "fal"), "--push-to-hub", "me/fal"]) == 1
    captured = capsys.readouterr()
    assert captured.err.endswith("convert_checkpoint.py: me/fal: expected a private repository\n")
    assert (tmp_path / "fal" / "model.safetensors").is_file()
