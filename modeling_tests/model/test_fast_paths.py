"""When a fast path may be taken: by plain tensors and plain modules, unless somebody watches."""

from contextlib import nullcontext

import pytest
import torch
from tiny_fal import random_clip, tiny_model
from torch import nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from fal_hf.model.fast_paths import is_eager, is_inference, is_plain, is_plain_linear


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (nullcontext, True),
        (torch.inference_mode, True),
        (lambda: torch.autocast("cpu", torch.bfloat16), False),
        (lambda: FlopCounterMode(display=False), False),
        (forward_ad.dual_level, False),
    ],
)
def test_tensors_are_computed_with_at_once_unless_something_stands_between(context, expected):
    with context():
        assert is_eager(torch.ones(2)) == expected
        assert not is_eager(nn.Parameter(torch.ones(2)))  # nor any other kind of tensor


def test_a_transformed_function_is_not_computed_at_once():
    seen = []
    torch.func.vmap(lambda row: seen.append(is_eager(row)) or row)(torch.ones(2, 3))
    assert seen == [False]


def test_inference_is_what_keeps_nothing():
    assert not is_inference(torch.ones(2))
    with torch.no_grad():
        assert is_inference(torch.ones(2))


HOOKS = ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]


@pytest.mark.parametrize("register", HOOKS)
def test_a_module_with_a_hook_is_not_plain(register):
    outer = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    assert is_plain(outer, outer[0]) and is_plain_linear(outer[0])
    handles = [getattr(outer[0], register)(lambda *_: None)]
    assert not is_plain(outer) and not is_plain_linear(outer[0])
    handles.pop().remove()
    assert is_plain(outer, outer[0])


def test_a_hook_on_all_modules_counts():
    linear = nn.Linear(2, 2)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not is_plain(linear)
    finally:
        handle.remove()


def test_linears_with_another_forward_or_weight_are_not_plain():
    class Other(nn.Linear):
        def forward(self, inputs):
            return inputs

    replaced = nn.Linear(2, 2)
    replaced.forward = lambda inputs: inputs  # as accelerate does it
    quantized = torch.ao.nn.quantized.dynamic.Linear(2, 2)
    for linear in (Other(2, 2), replaced, quantized):
        assert not is_plain_linear(linear) and not is_plain(nn.Sequential(linear), linear)


@torch.no_grad()
def test_hooks_of_transformers_that_collect_outputs_do_not_count():
    model = tiny_model()
    model(random_clip(model.config), output_attentions=True, output_hidden_states=True)
    assert model.fal.layers[0]._forward_hooks and is_plain(model)
