"""Packages whose names are imported when they are asked for."""

import subprocess
import sys

import pytest

import fal_hf
import fal_hf.conversion


@pytest.mark.parametrize("package", [fal_hf, fal_hf.conversion])
def test_every_name_is_there_and_is_listed(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fal_hf' has no attribute 'VideoLabeller'"):
        fal_hf.VideoLabeller  # noqa: B018


def test_what_was_not_asked_for_is_not_imported():
    code = (
        "import sys; sys.argv = ['fal']; import fal_hf, fal_hf.conversion; print({'torch', 'av'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
