"""What training does not keep: the same gradients to the last bit, from less memory."""

import copy

import pytest
import torch
from tiny_fal import VARIANTS, logits_and_gradients, random_clip, tiny_config, tiny_model, variant_name
from torch import nn

from fal_hf.model import fast_paths, modeling_fal
from fal_hf.model.recomputation import apply_recomputed


def plainly(module, function, inputs):
    return module(function(inputs))


@pytest.fixture
def plain_path(monkeypatch):
    """Has what the function gives be computed as the modules say."""

    def compute(function, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(modeling_fal, "apply_recomputed", plainly)
            return function(*args, **kwargs)

    return compute


def assert_equal(result, expected):
    assert torch.equal(result[0], expected[0])
    assert result[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert torch.equal(result[1][name], gradient), name


def seeded(model, clip):
    torch.manual_seed(0)
    return logits_and_gradients(model, clip)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_gradients_are_the_same_to_the_last_bit(variant, dtype, plain_path):
    model = tiny_model(grid=(3, 5, 3), **variant).to(dtype).train()
    clip = random_clip(model.config).to(dtype)
    assert_equal(seeded(model, clip), plain_path(seeded, model, clip))


@pytest.mark.parametrize(
    "fields",
    [
        *({"label_attention": kind, "label_integration_layer": 1} for kind in ("label", "unified", "divided")),
        {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3, "drop_path_rate": 0.5},
        {"hidden_act": "quick_gelu"},
    ],
    ids=str,
)
def test_gradients_are_the_same_with_label_tokens_dropout_and_other_activations(fields, plain_path):
    model = tiny_model(tiny_config(grid=(3, 5, 3), **fields)).train()
    clip = random_clip(model.config)
    assert_equal(seeded(model, clip), plain_path(seeded, model, clip))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradients_are_the_same_under_checkpointing(use_reentrant, plain_path):
    model = tiny_model().train()
    clip = random_clip(model.config)
    expected = plain_path(seeded, model, clip)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    assert_equal(seeded(model, clip), expected)


def test_gradients_are_the_same_where_somebody_else_keeps_tensors(plain_path):
    model = tiny_model().train()
    clip = random_clip(model.config)
    expected = plain_path(seeded, model, clip)
    with torch.autograd.graph.save_on_cpu():
        assert_equal(seeded(model, clip), expected)


def test_gradients_are_the_same_with_adapters(plain_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["qkv", "fc1", "fc2"], init_lora_weights=False)
    model = peft.get_peft_model(tiny_model(), config).train()
    clip = random_clip(tiny_config())
    assert_equal(seeded(model, clip), plain_path(seeded, model, clip))


def test_two_backward_passes_and_gradients_of_gradients(plain_path):
    torch.manual_seed(0)
    norm, linear, inputs = nn.LayerNorm(6), nn.Linear(6, 4), torch.randn(3, 6, requires_grad=True)

    def differentiate(apply):
        result = apply(linear, norm, inputs).square().sum()
        wanted = [inputs, *norm.parameters(), *linear.parameters()]
        first = torch.autograd.grad(result, wanted, create_graph=True)
        again = torch.autograd.grad(result, wanted, retain_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), wanted)
        return [*first, *again, *second]

    for gradient, expected in zip(differentiate(apply_recomputed), differentiate(plainly), strict=True):
        torch.testing.assert_close(gradient, expected, atol=0, rtol=0)


def kept_numbers(function) -> int:
    """Numbers in the storages that are kept for a backward pass, weights included."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes() // tensor.itemsize)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()  # held, or its memory would be given out again
    return sum(numbers for _, numbers in kept.values()) + 0 * len(result.shape)


def test_neither_layer_norms_nor_activations_are_kept(plain_path):
    model = tiny_model().train()
    clip = random_clip(model.config)

    def kept():
        return kept_numbers(lambda: model(clip).logits)

    # Of a block: the MLP's layer norm and GELU, and the layer norms of its two steps.
    tokens, config = 2 * 65, model.config
    saved = config.num_hidden_layers * tokens * (3 * config.hidden_size + config.intermediate_size)
    assert plain_path(kept) - kept() == pytest.approx(saved, rel=0.15)


def test_a_hook_on_what_would_be_computed_again_is_called_once():
    model = tiny_model().train()
    calls = []
    model.fal.layers[0].mlp.layernorm.register_forward_hook(lambda *args: calls.append(args))
    model(random_clip(model.config)).logits.sum().backward()
    assert len(calls) == 1


def test_a_copy_trains_as_its_original():
    model = tiny_model().train()
    clip = random_clip(model.config)
    assert_equal(seeded(copy.deepcopy(model), clip), seeded(model, clip))


def test_under_autocast_nothing_is_computed_again(monkeypatch):
    model = tiny_model().train()
    monkeypatch.setattr(fast_paths, "is_plain", lambda *args: pytest.fail("looked further"))
    with torch.autocast("cpu", torch.bfloat16):
        model(random_clip(model.config)).logits.sum().backward()
