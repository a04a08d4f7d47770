"""The ways to make a runtime."""

import pytest
from tiny_fal import tiny_model

from fal_hf.export.candidates import list_candidates
from fal_hf.runtimes.frozen_model import list_linears, match_linears


@pytest.mark.parametrize(("format", "precision"), [("onnx", "float32"), ("torch", "bfloat16")])
def test_there_is_one_way_but_in_int8(format, precision):
    (candidate,) = list_candidates(format, precision)
    assert (str(candidate), candidate.float_linears) == (f"{format}-{precision}", ())


@pytest.mark.parametrize(("format", "number"), [("onnx", 4), ("openvino", 6), ("torch", 2)])
def test_in_int8_what_reads_pixels_and_what_scores_is_kept_and_then_more(format, number):
    candidates, model = list_candidates(format, "int8"), tiny_model()
    assert len(candidates) == len(set(map(str, candidates))) == number
    kept = [set(match_linears(model, candidate.float_linears)) for candidate in candidates]
    assert kept[0] == {"fal.embeddings.patch_embeddings.projection", "classifier"}
    assert kept[1] - kept[0] == {name for name in list_linears(model) if name.endswith("fc2")}
    assert str(candidates[0]).startswith(f"{format}-int8, in float32: embeddings and heads")
