"""The ways to make a runtime."""

import pytest
from tiny_fal import tiny_config, tiny_model

from fal_hf.export.candidates import list_candidates
from fal_hf.runtimes.frozen_model import list_linears, match_linears


@pytest.mark.parametrize(("format", "precision"), [("onnx", "float32"), ("torch", "bfloat16")])
def test_there_is_one_way_but_in_int8(format, precision):
    (candidate,) = list_candidates(format, precision, num_layers=2)
    assert (str(candidate), candidate.float_linears) == (f"{format}-{precision}", ())


@pytest.mark.parametrize(("format", "number"), [("onnx", 6), ("openvino", 9), ("torch", 3)])
def test_in_int8_what_reads_pixels_and_what_scores_is_kept_and_then_more(format, number):
    model = tiny_model(tiny_config(num_hidden_layers=3))
    candidates = list_candidates(format, "int8", num_layers=3)
    assert len(candidates) == len(set(map(str, candidates))) == number
    kept = [set(match_linears(model, candidate.float_linears)) for candidate in candidates[:: number // 3]]
    assert kept[0] == {"fal.embeddings.patch_embeddings.projection", "classifier"}
    assert kept[1] - kept[0] == {name for name in list_linears(model) if name.endswith("fc2")}
    ends = {name for name in list_linears(model) if "layers.0." in name or "layers.2." in name}
    assert kept[2] == kept[1] | ends and len(kept[2]) < len(list_linears(model))
    assert len(list_candidates(format, "int8", num_layers=2)) == number * 2 // 3, "expected blocks that are in int8"
    assert str(candidates[0]).startswith(f"{format}-int8, in float32: embeddings and heads")
