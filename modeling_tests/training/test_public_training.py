"""The names that `fal_hf.training` exports, and what importing it costs."""

import subprocess
import sys

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

from fal_hf import training

PROBE = """
import sys
import fal_hf
before = set(sys.modules)  # transformers imports some of the libraries by itself
import fal_hf.training
print(sorted(set(sys.modules) - before))
"""


def test_all_names_exist_and_say_what_they_are():
    for name in training.__all__:
        member = getattr(training, name)
        places = ("fal_hf.training.", "fal_hf.model.video_writing")
        assert member.__doc__ and member.__module__.startswith(places), name
    assert set(training.__all__) <= set(dir(training))
    with pytest.raises(AttributeError, match="has no attribute 'fit_all'"):
        _ = training.fit_all


def test_importing_it_imports_nothing_else():
    finished = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "['fal_hf.training']"
