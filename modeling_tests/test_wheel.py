"""The built package, installed where there is no checkout: it is whole, and its command does all that it says."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from foreign_checkpoints import tiny_timesformer
from fresh_environment import make_environment
from media_files import moving_frames, write_video
from transformers import TimesformerForVideoClassification
from video_classification_files import write_class_folders

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ("LICENSE", "README.md", "pyproject.toml", "setup.py", "src")
# In this order: what one makes, a later one uses.
COMMANDS = (
    "--version",
    "label video.mp4 --json",
    "train --train_dir clips --output_dir runs/mine --max_steps 1 --use_cpu --train_val_split 0.5",
    "evaluate --model_name_or_path runs/mine/model --train_file runs/mine/clips.jsonl --split validation",
    "label --model runs/mine/model video.mp4",
    "convert timesformer-folder --output converted",
    "label --model converted video.mp4",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, which is made of a copy of the checkout, and the wheel, which is made of the sdist."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def fal(built, tmp_path_factory) -> Path:
    """The `fal` command of an environment that has the wheel."""
    python = make_environment(tmp_path_factory.mktemp("environment"))
    (wheel,) = built.glob("*.whl")
    install = ["--python", str(python), "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return python.with_name("fal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the commands run: a video, four clips of two classes, a checkpoint to convert."""
    folder = tmp_path_factory.mktemp("work")
    write_video(folder / "video.mp4", moving_frames(30))
    write_class_folders(folder / "clips", per_class=2)
    tiny_timesformer(TimesformerForVideoClassification).save_pretrained(folder / "timesformer-folder")
    return folder


def run(command: list[str | Path], folder: Path) -> str:
    """What a command prints where nothing says where the checkout is."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_sdist_and_wheel_hold_every_file_of_the_package(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    package = ROOT / "src" / "fal_hf"
    files = {path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.is_file()}
    files = {name for name in files if not name.endswith(".pyc")}
    assert files <= set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in files} | {"LICENSE", "README.md"} <= names


def test_what_is_imported_is_the_wheel_s(fal, folder):
    code = "import json, fal_hf, transformers; print(json.dumps([fal_hf.__file__, transformers.FALModel.__module__]))"
    file, module = json.loads(run([fal.with_name("python"), "-c", code], folder))
    assert Path(file).is_relative_to(fal.parents[1]) and module == "fal_hf.model.modeling_fal"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs(fal, folder, command):
    assert run([fal, *command.split()], folder)
