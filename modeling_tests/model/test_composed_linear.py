"""Two Linears applied as their product: the same result, and nothing that hangs on one of them is skipped."""

import pytest
import torch
from tiny_fal import assert_same, logits_and_gradients, random_clip, tiny_model
from torch import nn

from fal_hf.model.composed_linear import compose_linears

D = 8


@pytest.mark.parametrize("num_patches", [D, D + 1])
def test_the_product_takes_over_where_it_saves_rows(num_patches):
    first, second = nn.Linear(D, D), nn.Linear(D, D)
    tokens = torch.randn(2, num_patches, D)
    calls = []
    with torch.nn.modules.module.register_module_forward_pre_hook(lambda module, _: calls.append(module)):
        result = compose_linears(first, second, num_patches)(tokens)
    assert calls == ([] if num_patches > D else [first, second])
    torch.testing.assert_close(result, second(first(tokens)))
    assert torch.equal(compose_linears(first, None, num_patches)(tokens), first(tokens))


@pytest.mark.parametrize("scheme", ["divided_space_time", "sparse_local_global", "axial"])
def test_a_step_applied_by_the_product_of_its_linears_is_the_step_applied_one_by_one(scheme):
    model = tiny_model(attention_type=scheme)
    clip = random_clip(model.config)
    extra_steps = [step for layer in model.fal.layers for name, step in layer.steps.items() if name != "main"]
    calls: list = []
    with torch.nn.modules.module.register_module_forward_pre_hook(lambda module, _: calls.append(module)):
        at_once = logits_and_gradients(model, clip)
    assert not {step.dense for step in extra_steps} & set(calls)  # their product is applied instead

    calls = []
    for step in extra_steps:
        step.dense.register_forward_hook(lambda *_: calls.append(1))
    one_by_one = logits_and_gradients(model, clip)
    assert len(calls) == len(extra_steps)  # a Linear with a hook is called as a module
    assert_same(at_once, one_by_one, tolerance=1e-5)


@torch.no_grad()
def test_an_adapter_on_a_linear_of_an_extra_step_is_applied():
    class Adapter(nn.Linear):
        def forward(self, hidden_states):
            return super().forward(hidden_states) + 1

    model = tiny_model()
    clip = random_clip(model.config)
    before = model(clip).logits
    for layer in model.fal.layers:
        layer.steps["temporal"].attention.o_proj.__class__ = Adapter
    assert not torch.allclose(model(clip).logits, before)
