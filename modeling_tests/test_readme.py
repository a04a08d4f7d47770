"""
Every Python snippet of the README runs, and so does every command of it that starts with `python` or `fal`.

They run in one folder and in the README's order: what one makes, a later one uses.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign_checkpoints import CLASSES, tiny_timesformer, tiny_vit
from hub_stand_in import HubStandIn
from media_files import moving_frames, write_video
from tiny_fal import tiny_model
from transformers import TimesformerForVideoClassification
from video_classification_files import write_class_folders

from fal_hf import FALImageProcessor, FALVideoProcessor

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = {"python": [], "fal": ["-m", "fal_hf.cli"]}
# What is added to commands that take long as they stand, by their beginnings.
SHORTENED = {
    "fal label videos/": "--workers 2",
    "python examples/fine_tuning/run_video_classification.py": "--max_steps 2 --use_cpu",
    "python studies/temporal_order.py": "--train-clips 2 --test-clips 1 --epochs 1 --attention space_only "
    "--positions space_time",
    "python benchmarks/forward.py": "--frames 2 --attention divided_space_time --dtypes float32 --modes inference "
    "--repeats 1",
    "python benchmarks/decode.py": "--runs 1 --long-seconds 20 --folder runs/decode",
    "python benchmarks/training.py": "--frames 1 --batch-size 1 --steps 2 --turns 1 --workers 0 --folder runs/speed",
}
SLOW = ("python benchmarks/",)
LEFT_OUT = {
    "python examples/fine_tuning/surveillance_manifest.py": "its clips do not come with the project",
    "python benchmarks/labeling.py": "it labels ten minutes of video many times, whatever its arguments",
}


def commands() -> list:
    """The arguments of Python for each snippet and each command, as parameters of a test."""
    found = []
    for text, arguments in snippets():
        marks = [pytest.mark.slow] if text.startswith(SLOW) else []
        if not text.startswith(tuple(LEFT_OUT)):
            found.append(pytest.param(arguments, id=re.sub(r"\W+", "-", text[:60]), marks=marks))
    return found


def snippets() -> Iterator[tuple[str, list[str]]]:
    """The text of each snippet and command, with the arguments of Python that run it."""
    for language, block, in_prose in re.findall(r"```(\w+)\n(.*?)```|`(python [^`]+)`", README, flags=re.DOTALL):
        if language == "python":
            yield block, ["-W", "error::DeprecationWarning:fal_hf", "-c", block]
            continue
        lines = [in_prose.replace("\n", " "), *block.replace("\\\n", " ").splitlines()]
        for line in (line.removeprefix("$ ") for line in lines if line):
            if (program := line.split()[0] if line.split() else "") in PROGRAMS:
                added = " ".join(options for start, options in SHORTENED.items() if line.startswith(start))
                yield line, [*PROGRAMS[program], *shlex.split(f"{line} {added}", comments=True)[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the README names: videos, checkpoints to convert, and the published model, tiny, at its Hub id."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("convert_checkpoint.py", "examples", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("video.mp4", "runs/sample.mp4", "videos/a.mp4", "more/deep/b.mkv", "c.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, moving_frames(30))
    (folder / "list.csv").write_text("path\nc.mp4\n")
    write_class_folders(folder / "clips", per_class=8)
    published = folder / "SVECTOR-CORPORATION" / "FAL"
    tiny_model(grid=(8, 14, 14), patch_size=16).save_pretrained(published)
    FALImageProcessor().save_pretrained(published)
    FALVideoProcessor().save_pretrained(published)
    tiny_timesformer(TimesformerForVideoClassification).save_pretrained(folder / "timesformer-folder")
    tiny_vit().save_pretrained(folder / "vit-folder")
    (folder / "labels.txt").write_text("\n".join(f"label {index}" for index in range(CLASSES)))
    return folder


@pytest.fixture(scope="module")
def environment(folder):
    """Variables of a process that has a Hub and, in it, an account."""
    with HubStandIn({"hf_valid": "someone"}) as hub:
        yield {**os.environ, **hub.environment(token="hf_valid", cache=folder / "home")}


@pytest.mark.parametrize("start", [*SHORTENED, *SLOW, *LEFT_OUT])
def test_the_readme_has_the_commands_that_are_named_here(start):
    assert any(text.startswith(start) for text, _ in snippets())


@pytest.mark.parametrize("arguments", commands())
def test_snippet_runs(arguments, folder, environment):
    process = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "deprecated" not in process.stderr.lower()
