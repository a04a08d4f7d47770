"""What several test modules share: the folder of real media, and no way to the network."""

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
