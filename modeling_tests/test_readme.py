"""
Every Python snippet of the README runs as it stands, and so does every command of `convert_checkpoint.py`.

They run in one folder and in the README's order: what one makes, a later one uses.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_checkpoints import CLASSES, tiny_timesformer, tiny_vit
from hub_stand_in import HubStandIn
from media_files import moving_frames, write_video
from tiny_fal import tiny_model
from transformers import TimesformerForVideoClassification

from fal_hf import FALImageProcessor, FALVideoProcessor

ROOT = Path(__file__).resolve().parents[1]
FENCED = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def commands() -> list[list[str]]:
    """The arguments of Python for each snippet and each conversion."""
    found = []
    for language, text in FENCED:
        if language == "python":
            found.append(["-W", "error::DeprecationWarning:fal_hf", "-c", text])
        lines = text.splitlines() if language == "bash" else []
        for script, *arguments in (shlex.split(line)[1:] for line in lines if "convert_checkpoint.py" in line):
            found.append([str(ROOT / script), *arguments])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the README names: a video, checkpoints to convert, and the published model, tiny, at its Hub id."""
    folder = tmp_path_factory.mktemp("readme")
    write_video(folder / "video.mp4", moving_frames(30))
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


def test_the_readme_has_snippets():
    assert len(commands()) >= 9


@pytest.mark.parametrize("command", commands(), ids=lambda command: re.sub(r"\W+", "-", command[-1][:60]))
def test_snippet_runs(command, folder, environment):
    process = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "deprecated" not in process.stderr.lower()
