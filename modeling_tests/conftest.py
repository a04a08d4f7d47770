"""What several test modules share: the folder of real media, a tiny checkpoint, and no way to the network."""

import importlib
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: threads would only wait for one another
    os.environ["OMP_NUM_THREADS"] = "1"

# Packages that continuous integration does not install: they ask for older versions of others.
LEFT_OUT = {"label_studio_sdk"}
skip_without = pytest.importorskip


def expect_package(name: str, *args, **kwargs):
    """`pytest.importorskip` in continuous integration, where a package that is missing is an error and no skip."""
    return skip_without(name, *args, **kwargs) if name.partition(".")[0] in LEFT_OUT else importlib.import_module(name)


if os.environ.get("CI") == "true":
    pytest.importorskip = expect_package

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real clips beside the checkout; tests that need it skip where it is missing."""
    folder = SHARED / "media"
    if not folder.is_dir():
        pytest.skip(f"no folder of real media at {folder}")
    return folder


@contextmanager
def shared_folder(folder: Path):
    """A folder that several tests read; the last of them fails where one wrote into it."""

    def state() -> dict[str, int]:
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}

    before = state()
    yield folder
    assert state() == before, f"a test changed {folder}, which others read: let it write to `tmp_path`"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A folder with a tiny model of the labels a to e and its processors, which take three clips a video."""
    from tiny_fal import write_tiny_checkpoint

    with shared_folder(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny_checkpoint"))) as folder:
        yield folder


@pytest.fixture(scope="session")
def open_checkpoint(tmp_path_factory):
    """A folder with a tiny model that takes any labels, its processors and its text tower; its own are one and two."""
    from tiny_clip import write_open_checkpoint

    with shared_folder(write_open_checkpoint(tmp_path_factory.mktemp("open_checkpoint"), ["one", "two"])) as folder:
        yield folder


@pytest.fixture(scope="session")
def browser():
    """A browser without a window; tests that need it skip where there is none. `browser.open_page` opens a file."""
    from browser import open_browser

    with open_browser() as browser:
        yield browser


@pytest.fixture
def output(tmp_path) -> Path:
    """Where a conversion writes."""
    return tmp_path / "converted"


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory):
    """A folder with a tiny image ViT of transformers."""
    from foreign_checkpoints import CLASSES, tiny_vit

    folder = tmp_path_factory.mktemp("vit")
    tiny_vit(id2label={i: f"thing {i}" for i in range(CLASSES)}).save_pretrained(folder)
    with shared_folder(folder):
        yield folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A folder with a tiny CLIP of transformers, its tokenizer and its image processor."""
    from tiny_clip import write_tiny_clip

    folder = tmp_path_factory.mktemp("clip")
    write_tiny_clip(folder)
    with shared_folder(folder):
        yield folder


@pytest.fixture(scope="session")
def timesformer_folder(tmp_path_factory):
    """A folder with a tiny TimeSformer of transformers."""
    from foreign_checkpoints import CLASSES, tiny_timesformer
    from transformers import TimesformerForVideoClassification

    folder = tmp_path_factory.mktemp("timesformer")
    labels = {i: f"action {i}" for i in range(CLASSES)}
    tiny_timesformer(TimesformerForVideoClassification, id2label=labels).save_pretrained(folder)
    with shared_folder(folder):
        yield folder


@pytest.fixture(scope="session")
def shared_hub():
    """A Hub with the account "someone", that of `warm_python`; tests tell their repositories apart by their names."""
    from hub_stand_in import HubStandIn

    with HubStandIn({"hf_valid": "someone"}) as hub:
        yield hub


@pytest.fixture(scope="session")
def warm_python(shared_hub, tmp_path_factory):
    """An interpreter that runs scripts, snippets and commands at once, and whose Hub is `shared_hub`."""
    from warm_python import WarmPython

    with WarmPython(shared_hub.environment(token="hf_valid", cache=tmp_path_factory.mktemp("home"))) as python:
        yield python
