"""Inference in parts: what comes out whole, and only where nobody could tell."""

import pytest
import torch
from tiny_fal import GRIDS, VARIANTS, random_clip, tiny_config, tiny_model, variant_name
from torch.testing import assert_close

from fal_hf.model import parts
from fal_hf.model.parts import apply_to_cuts, apply_to_parts, cut_axis

LABELS = {"label_integration_layer": 1, "num_hidden_layers": 3}


@pytest.fixture(params=[1, 300], ids="{} numbers".format)
def small_parts(request, monkeypatch):
    monkeypatch.setattr(parts, "PART_NUMBERS", request.param)


@pytest.fixture
def cuts(monkeypatch):
    """The lengths of the parts that clips are cut into."""
    seen = []
    monkeypatch.setattr(parts, "cut_axis", lambda *args: seen.append(list(cut_axis(*args))) or iter(seen[-1]))
    return seen


def outputs(model, clip, **kwargs) -> list[torch.Tensor]:
    result = model(clip, **kwargs)
    return [result.logits, model.fal(clip).last_hidden_state, *(result.hidden_states or ())]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_in_parts_a_model_says_what_it_says_in_one(variant, grid, small_parts, cuts):
    model = tiny_model(grid=grid, **variant)
    clip = random_clip(model.config, batch=3)
    whole = outputs(model, clip, output_hidden_states=True)
    assert not cuts
    with torch.no_grad():
        assert_close(outputs(model, clip, output_hidden_states=True), whole, atol=1e-5, rtol=1e-5)
    assert cuts or grid == (1, 1, 1) or variant["attention_type"] in ("joint_space_time", "sparse_local_global")


@pytest.mark.parametrize("label_attention", ["label", "unified", "divided"])
@pytest.mark.parametrize("attention_type", ["divided_space_time", "space_only"])
@torch.no_grad()
def test_in_parts_labels_as_tokens_get_the_same_scores(label_attention, attention_type, small_parts, monkeypatch):
    model = tiny_model(tiny_config(label_attention=label_attention, attention_type=attention_type, **LABELS))
    clip = random_clip(model.config, batch=3)
    in_parts = model(clip).label_logits
    monkeypatch.setattr(parts, "PART_NUMBERS", 2**40)
    assert_close(in_parts, model(clip).label_logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_in_parts_half_precision_stays_close(small_parts, monkeypatch):
    model = tiny_model().to(torch.bfloat16)
    clip = random_clip(model.config).to(torch.bfloat16)
    in_parts = model(clip).logits
    monkeypatch.setattr(parts, "PART_NUMBERS", 2**40)
    assert_close(in_parts, model(clip).logits, atol=0.05, rtol=0.05)


@torch.no_grad()
def test_in_parts_a_clip_has_the_same_bits_whatever_is_beside_it(small_parts):
    grid = (4, 5, 3)
    layer, clips = tiny_model(grid=grid).fal.layers[0], torch.randn(5, 1 + 4 * 5 * 3, 16)
    assert torch.equal(torch.cat([layer(clip[None], grid) for clip in clips]), layer(clips, grid))


@torch.no_grad()
def test_what_is_asked_for_or_watched_is_made_in_one(small_parts, cuts, monkeypatch):
    model = tiny_model()
    clip = random_clip(model.config)
    step, mlp = model.fal.layers[0].steps["main"], model.fal.layers[0].mlp
    sizes = []
    for hooked in (step.attention, mlp.fc1):
        hooked.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[1]))
    model(clip)
    assert sizes == [65, 65]
    weights = model(clip, output_attentions=True).attentions
    assert [tuple(weight.shape) for weight in weights] == [(2, 4, 2, 17, 17)] * 2
    cuts.clear()
    model.train()
    model(clip)
    with torch.autocast("cpu", torch.bfloat16):
        model.eval()(clip)
    torch.export.export(model, (clip,))
    assert not cuts


@torch.no_grad()
def test_outputs_that_were_asked_for_once_do_not_end_parts(small_parts, cuts):
    model = tiny_model()
    clip = random_clip(model.config)
    before = model(clip).logits
    model(clip, output_attentions=True, output_hidden_states=True)
    cuts.clear()
    assert torch.equal(model(clip).logits, before) and cuts


@torch.no_grad()
def test_tensors_that_a_hook_holds_are_left_as_they_are():
    model = tiny_model()
    held = []

    def hold(module, args, output):
        held.extend((tensor, tensor.clone()) for tensor in (args[0], output))

    layer = model.fal.layers[0]
    for module in (layer, layer.mlp, *layer.steps.values()):
        module.register_forward_hook(hold)
    hidden_states = model(random_clip(model.config), output_hidden_states=True).hidden_states
    assert len(held) == 8 and all(torch.equal(tensor, then) for tensor, then in held)
    assert torch.equal(hidden_states[0], held[-2][1]) and torch.equal(hidden_states[1], held[-1][1])


@torch.no_grad()
def test_what_does_not_fit_is_cut_and_nothing_else(monkeypatch):
    sizes = []
    tokens = torch.randn(3, 11, 2)
    monkeypatch.setattr(parts, "count_tokens", lambda width: width)
    for limit, expected in ((33, [(3, 11)]), (22, [(2, 11), (1, 11)]), (4, [(1, 4), (1, 4), (1, 3)] * 3)):
        sizes.clear()
        assert torch.equal(
            apply_to_parts(lambda x: sizes.append(tuple(x.shape[:2])) or x + 1, tokens, limit), tokens + 1
        )
        assert sizes == expected


@torch.no_grad()
def test_a_shared_token_is_averaged_by_the_length_of_the_parts(monkeypatch):
    monkeypatch.setattr(parts, "count_tokens", lambda width: width)
    tokens, grid = torch.randn(2, 1 + 5 * 2 * 3, 4, dtype=torch.float64), (5, 2, 3)

    def average(clip, grid):  # in place of the CLS token the mean of the patches
        return torch.cat([clip[:, 1:].mean(1, keepdim=True), clip[:, 1:]], dim=1)

    expected = average(tokens, grid)
    for limit in (1, 12, 18, 31):
        assert_close(apply_to_cuts(average, tokens, grid, 0, limit, has_cls=True, has_patches=True), expected)


@pytest.mark.parametrize(("grid", "axis", "limit", "lengths"), [
    ((8, 14, 14), 0, 256, [1] * 8),
    ((8, 14, 14), 1, 341, [2, 3, 3, 3, 3]),
    ((5, 2, 3), 0, 13, [1, 2, 2]),
    ((5, 2, 3), 0, 30, [5]),
    ((5, 2, 3), 0, 1, [1] * 5),
])  # fmt: skip
def test_cuts_are_few_and_of_nearly_one_length(grid, axis, limit, lengths):
    assert [cut.stop - cut.start for cut in cut_axis(grid, axis, limit)] == lengths
