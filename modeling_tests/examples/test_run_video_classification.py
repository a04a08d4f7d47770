"""The example that shows what `fal train` does, step by step: it ends with the same bytes."""

import json
import sys
from pathlib import Path

import pytest
from video_classification_files import EXAMPLES, write_class_folders

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

sys.path.insert(0, str(EXAMPLES))

import run_video_classification as example

from fal_hf.cli import main

OPTIONS = (
    "--train_val_split 0.25 --max_steps 3 --per_device_train_batch_size 3 --drop_path_rate 0.2 --ema_decay 0.5 "
    "--mixup_alpha 0.8 --horizontal_flip 0.5 --use_cpu --report_to none --disable_tqdm true"
)


def read_figures(output: Path) -> dict[str, float]:
    results = json.loads((output / "all_results.json").read_text())
    return {name: value for name, value in results.items() if not name.endswith(("_runtime", "_per_second"))}


def test_the_example_trains_what_the_command_trains(tiny_checkpoint, tmp_path, capsys):
    clips = write_class_folders(tmp_path / "clips", per_class=8)
    words = ["small_set", "--model_name_or_path", str(tiny_checkpoint), "--train_dir", str(clips), *OPTIONS.split()]
    assert main(["train", *words, "--output_dir", str(tmp_path / "command")]) == 0
    example.main([*words, "--output_dir", str(tmp_path / "example")])
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("command", "example")]
    assert weights[0] == weights[1]
    assert read_figures(tmp_path / "command") == read_figures(tmp_path / "example")
    printed = capsys.readouterr().out
    assert "validation_accuracy" in printed and printed.count("0 of 16 clips left out as unreadable") == 2
