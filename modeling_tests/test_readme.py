"""Every Python snippet of the README runs as it stands, in a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from media_files import moving_frames, write_video
from tiny_fal import tiny_model

from fal_hf import FALImageProcessor, FALVideoProcessor

README = Path(__file__).resolve().parents[1] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the snippets name: video.mp4, and a tiny model of the published one's frame size at its Hub id."""
    folder = tmp_path_factory.mktemp("readme")
    write_video(folder / "video.mp4", moving_frames(30))
    checkpoint = folder / "SVECTOR-CORPORATION" / "FAL"
    tiny_model(grid=(8, 14, 14), patch_size=16).save_pretrained(checkpoint)
    FALImageProcessor().save_pretrained(checkpoint)
    FALVideoProcessor().save_pretrained(checkpoint)
    return folder


def test_the_readme_has_snippets():
    assert len(SNIPPETS) >= 5


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: re.sub(r"\W+", "-", snippet[:60]))
def test_snippet_runs(snippet, folder):
    command = [sys.executable, "-W", "error::DeprecationWarning:fal_hf", "-c", snippet]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "deprecated" not in process.stderr.lower()
