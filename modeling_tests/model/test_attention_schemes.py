"""The attention schemes against a naive reference, and each fast path against the slow one."""

import subprocess
import sys

import pytest
import torch
from naive_fal import SCHEMES, naive_logits, neighbor_mask
from tiny_fal import (
    GRIDS,
    VARIANTS,
    assert_same,
    logits_and_gradients,
    random_clip,
    tiny_config,
    tiny_model,
    variant_name,
)

from fal_hf import FALVideoClassifierForVideoClassification
from fal_hf.model.attention_schemes import ATTENTION_SCHEMES, ATTENTION_TYPES, STEP_ATTENTIONS
from fal_hf.model.modeling_fal import FALModelOutput, FALVideoClassifierOutput, make_neighborhoods

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
every_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)
every_scheme = pytest.mark.parametrize("scheme", ATTENTION_TYPES)

STEP_NAMES = {
    "space_only": {"main"},
    "joint_space_time": {"main"},
    "divided_space_time": {"temporal", "main"},
    "sparse_local_global": {"local", "main"},
    "axial": {"temporal", "row", "main"},
}
OUTPUT_NAMES = {
    "main": "attentions",
    "temporal": "temporal_attentions",
    "local": "local_attentions",
    "row": "row_attentions",
}


def test_the_table_has_the_steps_and_the_neighborhoods_of_the_naive_reference():
    table = {name: list(scheme.steps.items()) for name, scheme in ATTENTION_SCHEMES.items()}
    assert table == SCHEMES


@pytest.mark.parametrize("output_class", [FALModelOutput, FALVideoClassifierOutput])
def test_the_weights_of_every_step_have_a_field(output_class):
    assert STEP_ATTENTIONS == OUTPUT_NAMES
    assert set(STEP_ATTENTIONS.values()) <= output_class.__dataclass_fields__.keys()


def test_the_table_is_read_without_torch():
    code = "import sys; sys.argv = ['fal']; import fal_hf.model.attention_schemes\n"
    code += "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@every_variant
def test_calibrated_scores_and_gradients_equal_the_naive_ones(variant):
    model = tiny_model(tiny_config(grid=GRIDS[1], temperature=1.7, **variant)).double()
    clip = random_clip(model.config).double()
    assert_same(logits_and_gradients(model, clip), logits_and_gradients(model, clip, naive_logits), tolerance=1e-9)


@every_variant
@every_grid
def test_logits_and_gradients_equal_the_naive_reference(variant, grid):
    model = tiny_model(grid=grid, **variant).double()
    clip = random_clip(model.config).double()
    expected = logits_and_gradients(model, clip, forward=naive_logits)
    assert_same(logits_and_gradients(model, clip), expected, tolerance=1e-10)


@every_variant
def test_clips_norms_equal_the_naive_reference(variant):
    model = tiny_model(norm_layout="clip", **variant).double()
    clip = random_clip(model.config).double()
    expected = logits_and_gradients(model, clip, forward=naive_logits)
    assert_same(logits_and_gradients(model, clip), expected, tolerance=1e-10)


@every_variant
def test_no_parameter_is_without_a_gradient_in_training(variant):
    model = tiny_model(**variant).train()
    model(random_clip(model.config)).logits.square().sum().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


@every_variant
@pytest.mark.parametrize("grid", [(4, 4, 4), (3, 5, 3)], ids=str)
def test_sdpa_agrees_with_eager_in_float32(variant, grid):
    config = tiny_config(grid=grid, **variant)
    clip = random_clip(config)
    eager = logits_and_gradients(tiny_model(config, attention="eager"), clip)
    sdpa = logits_and_gradients(tiny_model(config, attention="sdpa"), clip)
    assert_same(sdpa, eager, tolerance=1e-5)


@every_variant
@pytest.mark.parametrize(("attention", "grid"), [("eager", (4, 4, 4)), ("sdpa", (3, 5, 3))])
def test_the_short_cut_for_logits_changes_nothing(variant, attention, grid, monkeypatch):
    model = tiny_model(grid=grid, attention=attention, **variant).double()
    clip = random_clip(model.config).double()
    assert model.wants_logits_only({})
    short = logits_and_gradients(model, clip)
    monkeypatch.setattr(model, "wants_logits_only", lambda kwargs: False)
    assert_same(short, logits_and_gradients(model, clip), tolerance=1e-6 if attention == "eager" else 1e-10)


@every_variant
def test_cls_only_returns_the_cls_token_of_the_full_output(variant):
    model = tiny_model(grid=(3, 4, 5), **variant).fal
    clip = random_clip(model.config)
    with torch.no_grad():
        full, short = model(clip), model(clip, cls_only=True)
    assert full.last_hidden_state.shape == (2, 1 + 60, 16)
    assert short.last_hidden_state.shape == (2, 1, 16)
    torch.testing.assert_close(short.pooler_output, full.pooler_output)
    torch.testing.assert_close(short.last_hidden_state, full.last_hidden_state[:, :1])


@pytest.mark.parametrize("scheme", [name for name in ATTENTION_TYPES if name != "joint_space_time"])
@every_grid
def test_groups_hold_each_patch_once_and_come_back_in_place(scheme, grid):
    patches = torch.arange(grid[0] * grid[1] * grid[2]).view(1, *grid, 1)
    for neighborhood in make_neighborhoods(tiny_config(attention_type=scheme)).values():
        groups = neighborhood.partition(patches)
        members = torch.cat([group.flatten() for group in groups])
        assert sorted(members.tolist()) == patches.flatten().tolist()
        assert torch.equal(neighborhood.restore(groups, grid), patches)


@pytest.mark.parametrize(("kind", "expected"), [("local", [4, 4]), ("strided", [2, 8])])
def test_the_sparse_neighborhoods_have_the_size_of_the_paper(kind, expected):
    """F × H/2 × W/2 patches, and the clip at a stride of 2 in time and in both directions of space."""
    frames, side = expected[0], 4
    sizes = neighbor_mask(kind, (frames, side, side)).sum(-1).unique().tolist()
    assert sizes == [frames * side * side // (4 if kind == "local" else 8)]
    neighborhoods = make_neighborhoods(tiny_config(attention_type="sparse_local_global"))
    (groups,) = neighborhoods["local" if kind == "local" else "main"].partition(torch.zeros(1, frames, side, side, 1))
    assert groups.shape[2] == sizes[0]


@every_variant
def test_attention_maps_have_gradients(variant):
    model = tiny_model(attention="eager", **variant)
    outputs = model(random_clip(model.config), output_attentions=True)
    maps = [outputs[OUTPUT_NAMES[step]][0] for step in STEP_NAMES[variant["attention_type"]]]
    for weights in maps:
        weights.retain_grad()
    outputs.logits.square().sum().backward()
    assert all(weights.grad.abs().max() > 0 for weights in maps)


def assert_maps_of_every_step(outputs, model, scheme):
    for step, output_name in OUTPUT_NAMES.items():
        maps = outputs.get(output_name)
        if step not in STEP_NAMES[scheme]:
            assert maps is None
            continue
        assert len(maps) == model.config.num_hidden_layers
        for weights in maps:
            batch, _, heads, queries, keys = weights.shape
            assert (batch, heads) == (2, 2)
            assert queries >= 1 and keys >= 1
            assert_rows_sum_to_one(weights)


def assert_rows_sum_to_one(weights):
    """Rows of padding, which groups of unequal length leave, are zero from end to end."""
    sums = weights.sum(-1)
    is_padding = (weights == 0).all(-1)
    torch.testing.assert_close(sums[~is_padding], torch.ones_like(sums[~is_padding]))
    assert is_padding.float().mean() < 1


@every_variant
@pytest.mark.parametrize(("attention", "grid"), [("eager", (4, 4, 4)), ("sdpa", (3, 5, 3)), ("sdpa", (1, 1, 1))])
def test_attention_maps_of_every_step_come_on_request(variant, grid, attention):
    model = tiny_model(grid=grid, attention=attention, **variant)
    clip = random_clip(model.config)
    with torch.no_grad():
        plain, outputs = model(clip), model(clip, output_attentions=True)
        base_outputs = model.fal(clip, output_attentions=True)
    assert_maps_of_every_step(outputs, model, variant["attention_type"])
    assert_maps_of_every_step(base_outputs, model.fal, variant["attention_type"])
    torch.testing.assert_close(outputs.logits, plain.logits, atol=1e-5, rtol=1e-5)


@every_scheme
@pytest.mark.parametrize("return_dict", [True, False])
def test_attention_maps_come_when_the_configuration_asks(scheme, return_dict):
    model = tiny_model(attention="eager", attention_type=scheme)
    clip = random_clip(model.config)
    expected = model(clip, output_attentions=True)
    model.config.output_attentions = True
    model.config.return_dict = return_dict
    outputs = model(clip)
    if return_dict:
        assert_maps_of_every_step(outputs, model, scheme)
        torch.testing.assert_close(outputs.attentions, expected.attentions)
    else:
        assert len(outputs) == 1 + len(STEP_NAMES[scheme])
        assert all(len(maps) == model.config.num_hidden_layers for maps in outputs[1:])


def test_a_configuration_that_asks_for_attention_maps_under_sdpa_is_refused_with_the_reason():
    model = tiny_model(attention="sdpa")
    with pytest.raises(ValueError, match=r"output_attentions.*not supported.*sdpa.*'eager' instead"):
        model.config.output_attentions = True


def test_a_stored_configuration_that_asks_for_attention_maps_gets_them(tmp_path):
    tiny_model(attention="eager", output_attentions=True).save_pretrained(tmp_path)
    model = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path)
    outputs = model(random_clip(model.config))
    assert_maps_of_every_step(outputs, model, "divided_space_time")


def test_attention_maps_have_the_documented_shapes():
    model = tiny_model(grid=(3, 4, 5), attention_type="divided_space_time").eval()
    outputs = model(random_clip(model.config), output_attentions=True)
    assert outputs.temporal_attentions[0].shape == (2, 4 * 5, 2, 3, 1 + 3)
    assert outputs.attentions[0].shape == (2, 3, 2, 1 + 4 * 5, 1 + 4 * 5)
    model = tiny_model(grid=(3, 4, 5), attention_type="divided_space_time", cls_in_temporal_attention=False)
    outputs = model(random_clip(model.config), output_attentions=True)
    assert outputs.temporal_attentions[0].shape == (2, 4 * 5, 2, 3, 3)
    model = tiny_model(grid=(3, 4, 5), attention_type="joint_space_time")
    outputs = model(random_clip(model.config), output_attentions=True)
    assert outputs.attentions[0].shape == (2, 1, 2, 1 + 60, 1 + 60)
    model = tiny_model(grid=(3, 4, 5), attention_type="axial")
    outputs = model(random_clip(model.config), output_attentions=True)
    assert outputs.row_attentions[0].shape == (2, 3 * 4, 2, 1 + 5, 1 + 5)
    assert outputs.attentions[0].shape == (2, 3 * 5, 2, 1 + 4, 1 + 4)


@every_variant
@pytest.mark.parametrize("grid", [(4, 4, 4), (3, 5, 3)])
def test_attention_maps_are_what_gradients_pass(variant, grid):
    """In groups of unequal length as well, whose weights are joined: a gradient comes to each group."""
    model = tiny_model(grid=grid, **variant)
    clip = random_clip(model.config).requires_grad_()
    expected = torch.autograd.grad(model(clip).logits[:, 0].sum(), clip)[0]
    outputs = model(clip, output_attentions=True)
    logit = outputs.logits[:, 0].sum()
    torch.testing.assert_close(torch.autograd.grad(logit, clip, retain_graph=True)[0], expected, atol=1e-4, rtol=1e-4)
    first_maps = [outputs[STEP_ATTENTIONS[step]][0] for step in STEP_NAMES[variant["attention_type"]]]
    for gradient in torch.autograd.grad(logit, first_maps):
        assert (gradient.abs().sum((2, 3, 4)) > 0).all()


@every_scheme
def test_attention_maps_are_the_softmax_of_the_scores(scheme):
    """The first block's main map, from its own projections, for the queries and keys of the first group."""
    model = tiny_model(attention_type=scheme, num_hidden_layers=1).double()
    inputs = {}
    step = model.fal.layers[0].steps["main"]
    attention = step.attention
    step.register_forward_pre_hook(lambda module, args: inputs.update(tokens=args[0], grid=args[1]))
    weights = model(random_clip(model.config).double(), output_attentions=True).attentions[0]
    tokens, grid = step.layernorm(inputs["tokens"]), inputs["grid"]
    num_cls = tokens.shape[1] - grid[0] * grid[1] * grid[2]
    first_group = attention.neighborhood.group(attention.qkv(tokens), num_cls, grid)[0][:, 0]
    query, key, _ = first_group.chunk(3, dim=-1)
    scores = query[..., :8] @ key[..., :8].mT / 8**0.5  # the first of two heads
    torch.testing.assert_close(weights[:, 0, 0], scores.softmax(-1), atol=1e-6, rtol=1e-6)
