"""Fine-tuning on two processes beside one with the same global batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tiny_fal import tiny_config, tiny_model
from torch.testing import assert_close
from video_classification_files import EXAMPLES, write_class_folders

from fal_hf import FALVideoProcessor

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

SCRIPTS = tuple(
    (str(EXAMPLES / name),) for name in ("run_video_classification.py", "run_video_classification_no_trainer.py")
)
COMMAND = ("-m", "fal_hf.cli", "train")
OPTIONS = (
    "--train_val_split 0.25 --max_steps 4 --learning_rate 1e-3 --logging_steps 1 --use_cpu --report_to none "
    "--disable_tqdm true --save_strategy no --eval_strategy steps --eval_steps 2 --ema_decay 0.5"
)
FSDP_OPTIONS = "--ema_decay 0 --gradient_accumulation_steps 2 --save_strategy steps --save_steps 2"
MACHINE = "--num_machines 1 --mixed_precision no --dynamo_backend no"
ONE_PROCESS = f"--num_processes 1 {MACHINE}".split()
# --multi_gpu is how accelerate starts several processes on one machine; with --use_cpu they talk through gloo.
TWO_PROCESSES = f"--multi_gpu --num_processes 2 {MACHINE}".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny model to start from and 16 clips, of which 12 are trained on."""
    folder = tmp_path_factory.mktemp("processes")
    labels = {"id2label": {0: "bright", 1: "dark"}, "label2id": {"bright": 0, "dark": 1}}
    model = tiny_model(tiny_config(num_labels=2, **labels), std=0.02)
    model.save_pretrained(folder / "start")
    size = model.config.image_size[0]
    crop = {"height": size, "width": size}
    FALVideoProcessor(num_frames=4, size={"shortest_edge": size}, crop_size=crop).save_pretrained(folder / "start")
    write_class_folders(folder / "clips", per_class=8)
    return folder


def train(
    folder: Path, program: tuple[str, ...], output: Path, *options: str, launch: list[str], batch_size: int
) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", *launch]
    where = ["--model_name_or_path", folder / "start", "--train_dir", folder / "clips", "--output_dir", output]
    batch = ["--per_device_train_batch_size", str(batch_size), "--per_device_eval_batch_size", "1"]
    command = [*launcher, *program, *where, *batch, *OPTIONS.split(), *options]
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr


def read_history(output: Path, name: str) -> list[float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [float(entry[name]) for entry in history if name in entry]


def assert_same_run(two: Path, one: Path) -> None:
    for name in ("loss", "eval_loss", "eval_accuracy"):
        assert read_history(two, name) == pytest.approx(read_history(one, name), rel=1e-5)
    assert len(read_history(two, "loss")) == 4 and len(read_history(two, "eval_loss")) == 2
    weights, expected = (load_file(output / "model" / "model.safetensors") for output in (two, one))
    for name, weight in weights.items():
        assert_close(weight, expected[name], atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("program", [COMMAND, *SCRIPTS], ids=["fal train", "trainer", "accelerate"])
def test_two_processes_train_as_one_with_the_same_global_batch(folder, tmp_path, program):
    train(folder, program, tmp_path / "one", launch=ONE_PROCESS, batch_size=4)
    train(folder, program, tmp_path / "two", launch=TWO_PROCESSES, batch_size=2)
    assert_same_run(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_two_processes_share_the_computing_of_features(folder, tmp_path):
    options = ["--freeze", "features", "--eval_num_clips", "2", "--dataloader_num_workers", "1"]
    train(folder, COMMAND, tmp_path / "one", *options, launch=ONE_PROCESS, batch_size=4)
    train(folder, COMMAND, tmp_path / "two", *options, launch=TWO_PROCESSES, batch_size=2)
    assert_same_run(tmp_path / "two", tmp_path / "one")
    one, two = (sorted(path.name for path in (tmp_path / name / "features").iterdir()) for name in ("one", "two"))
    assert one == two and len(two) == 16


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=["trainer", "accelerate"])
def test_fsdp_trains_as_one_process_and_resumes(folder, tmp_path, script):
    """The given configuration, for two processes on the CPU, without mixed precision."""
    config = yaml.safe_load((EXAMPLES / "fsdp_config.yaml").read_text())
    (tmp_path / "fsdp.yaml").write_text(
        yaml.safe_dump({**config, "num_processes": 2, "use_cpu": True, "mixed_precision": "no"})
    )
    fsdp = ["--config_file", str(tmp_path / "fsdp.yaml"), str(Path(__file__).parents[1] / "fsdp_on_cpu.py")]
    one, two, resumed = (tmp_path / name for name in ("one", "two", "resumed"))
    train(folder, script, one, *FSDP_OPTIONS.split(), launch=ONE_PROCESS, batch_size=2)
    train(folder, script, two, *FSDP_OPTIONS.split(), launch=fsdp, batch_size=1)
    assert (two / "checkpoint-2" / "pytorch_model_fsdp.bin").exists()  # as FSDP alone writes it
    assert_same_run(two, one)
    go_on = ["--resume_from_checkpoint", str(two / "checkpoint-2")]
    train(folder, script, resumed, *FSDP_OPTIONS.split(), *go_on, launch=fsdp, batch_size=1)
    assert_same_run(resumed, two)
