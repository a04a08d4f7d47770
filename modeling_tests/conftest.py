"""What several test modules share: the folder of real media, a tiny checkpoint, and no way to the network."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real clips beside the checkout; tests that need it skip where it is missing."""
    folder = SHARED / "media"
    if not folder.is_dir():
        pytest.skip(f"no folder of real media at {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A folder with a tiny model of the labels a to e and its processors, which take three clips a video."""
    from tiny_fal import tiny_model

    from fal_hf import FALVideoProcessor

    folder = tmp_path_factory.mktemp("tiny_checkpoint")
    model = tiny_model(id2label=dict(enumerate("abcde")), label2id={name: i for i, name in enumerate("abcde")})
    model.save_pretrained(folder)
    size = model.config.image_size[0]
    FALVideoProcessor(
        num_frames=model.config.num_frames,
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        num_clips=3,
    ).save_pretrained(folder)
    return folder
