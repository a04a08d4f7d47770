"""Models that are run and no longer trained."""

import copy

import pytest
import torch
from tiny_fal import VARIANTS, random_clip, tiny_model, variant_name

from fal_hf.runtimes.frozen_model import compose_steps, list_linears, match_linears, quantize_linears


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
@torch.no_grad()
def test_a_composed_model_gives_the_same_scores_with_fewer_products(variant):
    model = tiny_model(**variant)
    composed = copy.deepcopy(model)
    compose_steps(composed)
    clip = random_clip(model.config)
    torch.testing.assert_close(composed(clip).logits, model(clip).logits, atol=1e-5, rtol=1e-5)
    extra = [name for name in list_linears(model) if name.endswith(".dense")]
    assert list_linears(composed) == [name for name in list_linears(model) if name not in extra]
    assert bool(extra) == (variant["attention_type"] not in ("space_only", "joint_space_time"))


@torch.no_grad()
def test_quantized_linears_multiply_in_int8_but_those_that_are_named():
    model = tiny_model(std=0.05, hidden_size=64, intermediate_size=128)
    compose_steps(model)
    clip = random_clip(model.config)
    expected = model(clip).logits
    kept = match_linears(model, ["classifier", r"mlp\.fc2$"])
    assert kept == ["fal.layers.0.mlp.fc2", "fal.layers.1.mlp.fc2", "classifier"]
    quantized = quantize_linears(copy.deepcopy(model), kept)
    assert list_linears(quantized) == kept
    assert type(quantized.get_submodule("fal.layers.0.mlp.fc1")).__module__.startswith("torch.ao")
    scores = quantized(clip).logits
    assert not torch.equal(scores, expected)
    torch.testing.assert_close(scores, expected, atol=0.05, rtol=0.05)
