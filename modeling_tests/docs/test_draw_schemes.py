"""The picture of the attention schemes: it is the model's, and it is up to date."""

import importlib.util
from itertools import product
from pathlib import Path

import pytest
from naive_fal import SCHEMES, neighbor_mask
from tiny_fal import tiny_config

from fal_hf.model.modeling_fal import make_neighborhoods

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "draw_schemes.py"


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("draw_schemes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_the_one_that_the_script_draws(script):
    assert script.OUTPUT.read_text(encoding="utf-8") == script.draw_schemes()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("query", [(0, 0, 0), (1, 2, 3), (3, 4, 4)])
def test_the_patches_are_those_of_the_naive_reference(script, scheme, query):
    grid = (4, 5, 6)
    places = list(product(*(range(side) for side in grid)))
    neighborhoods = make_neighborhoods(tiny_config(grid=grid, attention_type=scheme))
    for step, kind in SCHEMES[scheme]:
        row = neighbor_mask(kind, grid)[places.index(query)].tolist()
        expected = {place for place, is_neighbor in zip(places, row, strict=True) if is_neighbor}
        assert script.attended_patches(neighborhoods[step], grid, query) == expected
