"""`fal convert`: what is its own beside `convert_checkpoint.py`, which takes the same arguments."""

import subprocess
import sys
from dataclasses import fields

import pytest

from fal_hf import FALConfig
from fal_hf.cli import build_parser, main
from fal_hf.cli.convert import read_options
from fal_hf.conversion import ConversionOptions


def test_a_checkpoint_is_converted(vit_folder, output, capsys):
    assert main(["convert", str(vit_folder), "--output", str(output), "--attention-type", "axial"]) == 0
    captured = capsys.readouterr()
    assert "attention   axial, inflated\n" in captured.out
    assert FALConfig.from_pretrained(output).attention_type == "axial"


def test_the_command_works_where_nothing_is_imported_yet(vit_folder, tmp_path):
    command = [sys.executable, "-m", "fal_hf.cli", "convert", str(vit_folder), "--output", "fal"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert (tmp_path / "fal" / "model.safetensors").is_file()


def test_what_is_refused_ends_in_one_line_with_the_program_s_name(tmp_path, capsys):
    (tmp_path / "weights.pth").write_bytes(b"not a checkpoint")
    assert main(["convert", str(tmp_path / "weights.pth"), "--output", str(tmp_path / "fal")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("fal: ") and captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["source", "--output", "x", "--private"]], ids=["nothing", "no push"])
def test_wrong_usage_ends_in_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["convert", *arguments])
    assert exit_.value.code == 2
    assert "fal convert: error: " in capsys.readouterr().err


def test_every_option_of_the_library_is_an_argument():
    parser = build_parser()
    options = read_options(parser.parse_args(["convert", "source", "--output", "x"]))
    assert options == ConversionOptions()
    given = ["--source-revision", "v2", "--push-to-hub", "me/fal", "--revision", "dev", "--image-size", "48x32"]
    given += ["--attention-type", "axial", "--num-frames", "3", "--num-attention-heads", "4", "--new-head", "--bgr"]
    given += ["--time-table", "normal", "--resize", "nearest", "--labels", "a.txt", "--preprocessing", "vit"]
    given += ["--dtype", "float16", "--max-shard-size", "1MB", "--license", "mit", "--base-model", "me/base"]
    given += ["--label-attention", "label", "--label-integration-layer", "2", "--hierarchy", "h.json"]
    given += ["--label-embeddings", "e.safetensors", "--prompt", "{}"]
    given += ["--with-code", "--tolerance", "0.1", "--overwrite"]
    options = read_options(parser.parse_args(["convert", "source", "--output", "x", *given]))
    assert (options.revision, options.repo_id, options.image_size) == ("v2", "me/fal", (48, 32))
    changed = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
    assert changed == [field.name for field in fields(options)]


def test_help_names_the_choices_and_needs_no_torch():
    code = "import sys; sys.argv = ['fal']\nfrom fal_hf.cli import build_parser\n"
    code += "try: build_parser().parse_args(['convert', '--help'])\n"
    code += "finally: assert not {'torch', 'transformers'} & set(sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    for text in ("sparse_local_global", "--push-to-hub", "fal convert google/vit-base-patch16-224", "{zero,normal}"):
        assert text in process.stdout
