"""The model: sizes, inputs of other sizes, wrong inputs, outputs, initialisation, saving, and how it runs."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_fal import (
    DIVIDED,
    VARIANTS,
    assert_same,
    logits_and_gradients,
    random_clip,
    realigned,
    tiny_config,
    tiny_model,
    variant_name,
)
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, set_seed

from fal_hf import FALConfig, FALModel, FALVideoClassifierForVideoClassification
from fal_hf.model.attention_schemes import ATTENTION_TYPES
from fal_hf.model.modeling_fal import resize_positions, resize_times

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
every_scheme = pytest.mark.parametrize("scheme", ATTENTION_TYPES)

PARAMETERS = {  # with 174, 400 and 500 classes
    "space_only": (85_932_462, 86_106_256, 86_183_156),
    "joint_space_time": (85_938_606, 86_112_400, 86_189_300),
    "divided_space_time": (121_392_558, 121_566_352, 121_643_252),
    "sparse_local_global": (121_392_558, 121_566_352, 121_643_252),
    "axial": (156_846_510, 157_020_304, 157_097_204),
}


@every_scheme
@pytest.mark.parametrize(("column", "num_labels"), enumerate((174, 400, 500)))
def test_the_base_model_has_the_parameters_of_the_paper_to_the_digit(scheme, column, num_labels):
    with torch.device("meta"):
        model = FALVideoClassifierForVideoClassification(FALConfig(attention_type=scheme, num_labels=num_labels))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[scheme][column]


def test_the_model_holds_no_convolution():
    for scheme in ATTENTION_TYPES:
        modules = tiny_model(attention_type=scheme).modules()
        assert not any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in modules)


@pytest.mark.parametrize(("table", "shape"), [("cls_token", (1, 1, 16)), ("position_embeddings", (1, 16, 16))])
def test_the_tables_have_a_row_a_place_and_one_for_cls(table, shape):
    embeddings = tiny_model(grid=(2, 3, 5)).fal.embeddings
    assert getattr(embeddings, table).shape == shape
    assert embeddings.time_embeddings.shape == (1, 2, 16)


# ---- other sizes


@every_variant
@pytest.mark.parametrize("grid", [(7, 4, 4), (4, 6, 3), (1, 1, 5), (9, 5, 7)], ids=str)
def test_any_frame_count_and_any_resolution_runs_on_the_same_weights(variant, grid):
    model = tiny_model(grid=(4, 4, 4), **variant)
    outputs = model(random_clip(model.config, grid=grid), output_hidden_states=True)
    num_cls = grid[0] if variant["attention_type"] == "space_only" else 1
    assert outputs.logits.shape == (2, 5)
    assert torch.isfinite(outputs.logits).all()
    assert outputs.hidden_states[-1].shape == (2, num_cls + grid[0] * grid[1] * grid[2], 16)


def clip_logits_with_tables(model, clip, space_table, time_table):
    """Logits of a model of the clip's own size, whose tables are given: `(H, W, D)` and `(T, D)`."""
    config = tiny_config(grid=(len(time_table), *space_table.shape[:2]), attention_type=model.config.attention_type)
    other = tiny_model(config)
    weights = model.state_dict()
    cls_row = weights["fal.embeddings.position_embeddings"][:, :1]
    weights["fal.embeddings.position_embeddings"] = torch.cat([cls_row, space_table.flatten(0, 1)[None]], dim=1)
    weights["fal.embeddings.time_embeddings"] = time_table[None]
    other.load_state_dict(weights)
    return other(clip).logits


def linear_weights(length: int, new_length: int) -> torch.Tensor:
    """`(new_length, length)` weights of linear interpolation between the middles of cells, the ends held."""
    weights = torch.zeros(new_length, length)
    for row in range(new_length):
        place = min(max((row + 0.5) * length / new_length - 0.5, 0), length - 1)
        low = min(int(place), length - 2)
        weights[row, low] += 1 - (place - low)
        weights[row, low + 1] += place - low
    return weights


def cubic(distance: float, a: float = -0.75) -> float:
    distance = abs(distance)
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


def cubic_weights(length: int, new_length: int) -> torch.Tensor:
    """`(new_length, length)` weights of cubic convolution between the middles of cells, the ends repeated."""
    weights = torch.zeros(new_length, length)
    for row in range(new_length):
        place = (row + 0.5) * length / new_length - 0.5
        for cell in range(int(place // 1) - 1, int(place // 1) + 3):
            weights[row, min(max(cell, 0), length - 1)] += cubic(place - cell)
    return weights


@pytest.mark.parametrize("scheme", ["divided_space_time", "joint_space_time"])
@pytest.mark.parametrize("grid", [(7, 6, 3), (2, 3, 8), (4, 4, 5)], ids=str)
@torch.no_grad()
def test_tables_are_interpolated_bicubically_in_space_and_linearly_in_time(scheme, grid):
    model = tiny_model(grid=(4, 4, 5), attention_type=scheme)
    embeddings = model.fal.embeddings
    table = embeddings.position_embeddings[0, 1:].unflatten(0, (4, 5))
    rows, columns = cubic_weights(4, grid[1]), cubic_weights(5, grid[2])
    space_table = torch.einsum("rh,cw,hwd->rcd", rows, columns, table)
    time_table = linear_weights(4, grid[0]) @ embeddings.time_embeddings[0]
    clip = random_clip(model.config, grid=grid)
    expected = clip_logits_with_tables(model, clip, space_table, time_table)
    torch.testing.assert_close(model(clip).logits, expected, atol=1e-4, rtol=1e-4)


def test_a_smooth_table_stays_smooth_and_keeps_rows_and_columns_apart():
    ramp = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(10.0), indexing="ij"), dim=-1)
    inner = resize_positions(ramp[None], (12, 15))[0, 3:-3, 3:-3]
    torch.testing.assert_close(inner[..., 0].diff(dim=0), torch.full((5, 9), 6 / 12), atol=0.1, rtol=0)
    torch.testing.assert_close(inner[..., 1].diff(dim=1), torch.full((6, 8), 10 / 15), atol=0.1, rtol=0)
    assert inner[..., 0].diff(dim=1).abs().max() < 1e-5
    times = resize_times(torch.arange(8.0)[None, :, None], 16)[0, :, 0]
    torch.testing.assert_close(times[1:-1].diff(), torch.full((13,), 0.5))
    assert (times.diff() >= 0).all()


def test_a_constant_table_is_the_same_at_every_size():
    positions, times = torch.full((1, 4, 4, 16), 1.5), torch.full((1, 4, 16), -2.0)
    torch.testing.assert_close(resize_positions(positions, (9, 3)), torch.full((1, 9, 3, 16), 1.5))
    torch.testing.assert_close(resize_times(times, 5), torch.full((1, 5, 16), -2.0))


def test_the_configured_size_takes_the_tables_as_they_are():
    positions, times = torch.randn(1, 2, 5, 16), torch.randn(1, 3, 16)
    assert resize_positions(positions, (2, 5)) is positions
    assert resize_times(times, 3) is times


@every_scheme
def test_without_interpolation_another_size_is_refused_and_the_configured_one_is_the_same(scheme):
    model = tiny_model(grid=(4, 4, 4), attention_type=scheme)
    clip = random_clip(model.config)
    assert torch.equal(model(clip, interpolate_pos_encoding=False).logits, model(clip).logits)
    for grid in [(5, 4, 4), (4, 4, 3), (4, 2, 8)]:
        with pytest.raises(ValueError, match=r"\(4, 4, 4\) patches, got .*interpolate_pos_encoding=True"):
            model(random_clip(model.config, grid=grid), interpolate_pos_encoding=False)


@torch.no_grad()
def test_the_order_of_frames_tells_unless_there_is_no_time_table():
    for kind, tells in (("space_time", True), ("space_only", False), ("none", False)):
        model = tiny_model(attention_type="joint_space_time", position_embedding_type=kind)
        clip = random_clip(model.config)
        difference = (model(clip).logits - model(clip.flip(1)).logits).abs().max()
        assert (difference > 1e-3) == tells


@torch.no_grad()
def test_the_order_of_patches_does_not_tell_without_tables():
    model = tiny_model(attention_type="joint_space_time", position_embedding_type="none", grid=(2, 3, 3))
    clip = random_clip(model.config)
    patches = clip.unflatten(-1, (3, 4)).unflatten(-3, (3, 4))
    shuffled = patches.flip(3).flip(5).flatten(-4, -3).flatten(-2)
    torch.testing.assert_close(model(shuffled).logits, model(clip).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", [(1, 4, 4), (5, 4, 4)], ids=str)
@torch.no_grad()
def test_space_only_is_the_mean_over_frames_before_the_last_norm(grid):
    model = tiny_model(attention_type="space_only")
    clip = random_clip(model.config, grid=grid)
    last_blocks = [model(frame, output_hidden_states=True).hidden_states[-1][:, 0] for frame in clip.split(1, dim=1)]
    expected = model.classifier(model.fal.layernorm(torch.stack(last_blocks).mean(0)))
    torch.testing.assert_close(model(clip).logits, expected, atol=1e-5, rtol=1e-5)
    assert model(clip).logits.shape == (2, 5)


# ---- wrong use


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, 16, 16), r"\(batch, frames, 3, height, width\), got \(4, 3, 16, 16\); .*pixel_values\[None\]"),
        ((3, 16, 16), r"\(batch, frames, 3, height, width\), got \(3, 16, 16\)"),
        ((2, 4, 16, 16, 3), r"got \(2, 4, 16, 16, 3\); channels come last here: use pixel_values.movedim\(-1, 2\)"),
        ((2, 4, 1, 16, 16), r"frames, 3, height, width\), got \(2, 4, 1, 16, 16\)"),
        ((2, 3, 4, 16, 16), r"frames, 3, height, width\), got \(2, 3, 4, 16, 16\)"),
        ((2, 4, 3, 18, 16), r"multiples of the patch size 4, got \(2, 4, 3, 18, 16\); let FALVideoProcessor"),
        ((2, 4, 3, 16, 15), r"multiples of the patch size 4"),
        ((2, 0, 3, 16, 16), r"at least one frame"),
        ((2, 4, 3, 0, 16), r"at least one frame, height and width"),
    ],
)
def test_a_tensor_of_the_wrong_shape_is_refused_with_a_hint(shape, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(torch.zeros(shape))


@pytest.mark.parametrize("value", [None, "video.mp4", [[1.0]], np.zeros((2, 4, 3, 16, 16))])
def test_what_is_no_tensor_is_refused(value):
    with pytest.raises(TypeError, match=rf"as a torch.Tensor, got {type(value).__name__}; FALVideoProcessor"):
        tiny_model()(value)


# ---- outputs


def test_the_model_returns_all_tokens_and_the_embedding_of_the_clip():
    model = tiny_model(grid=(3, 4, 5)).fal
    outputs = model(random_clip(model.config))
    assert outputs.last_hidden_state.shape == (2, 1 + 60, 16)
    assert torch.equal(outputs.pooler_output, outputs.last_hidden_state[:, 0])
    assert outputs.hidden_states is None
    assert outputs.attentions is None


@every_variant
def test_hidden_states_are_the_tokens_before_the_first_block_and_after_each(variant):
    model = tiny_model(num_hidden_layers=3, **variant)
    clip = random_clip(model.config)
    outputs = model(clip, output_hidden_states=True)
    assert len(outputs.hidden_states) == 4
    assert torch.equal(outputs.hidden_states[0], model.fal.embeddings(clip)[0])
    last = outputs.hidden_states[-1]
    num_cls = last.shape[1] - 64
    pooled = model.fal.layernorm(last[:, :num_cls].mean(dim=1))
    torch.testing.assert_close(model.classifier(pooled), outputs.logits)
    torch.testing.assert_close(model(clip).logits, outputs.logits)


@pytest.mark.parametrize(("chosen", "kept"), [([1], {1}), ([0, -1], {0, 3}), (2, {2}), ([-2], {2})])
def test_hidden_states_of_chosen_layers_are_those_of_all_layers(chosen, kept):
    model = tiny_model(num_hidden_layers=3)
    clip = random_clip(model.config)
    everything = model(clip, output_hidden_states=True).hidden_states
    some = model(clip, output_hidden_states=chosen).hidden_states
    assert {index for index, tokens in enumerate(some) if tokens is not None} == kept
    assert all(torch.equal(some[index], everything[index]) for index in kept)


def test_tuples_are_returned_on_request():
    model = tiny_model()
    clip = random_clip(model.config)
    logits = model(clip).logits
    assert torch.equal(model(clip, return_dict=False)[0], logits)
    model.config.return_dict = False
    assert torch.equal(model(clip)[0], logits)
    loss, with_loss = model(clip, labels=torch.tensor([0, 1]))
    assert loss.ndim == 0
    assert torch.equal(with_loss, logits)


@pytest.mark.parametrize("model_class", [FALModel, FALVideoClassifierForVideoClassification])
@torch.no_grad()
def test_the_attention_implementation_can_be_set(model_class):
    model = model_class(tiny_config()).eval()
    clip = random_clip(model.config)
    names, outputs = [], []
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        names.append(model.config._attn_implementation)
        outputs.append(model(clip, output_hidden_states=True).hidden_states[-1])
    assert names == ["eager", "sdpa"]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


@every_scheme
@torch.no_grad()
def test_a_clip_has_the_same_logits_alone_and_in_a_batch(scheme):
    model = tiny_model(attention_type=scheme)
    clip = random_clip(model.config, batch=3)
    alone = torch.cat([model(each).logits for each in clip.split(1)])
    torch.testing.assert_close(model(clip).logits, alone, atol=1e-5, rtol=1e-5)


# ---- head, dropout, stochastic depth


@pytest.mark.parametrize(
    "fields",
    [{}, {"classifier_hidden_size": 8}, {"classifier_type": "similarity"}, {"attention_type": "space_only"}],
    ids=str,
)
def test_scores_are_divided_by_the_temperature(fields, tmp_path):
    plain, warm = (tiny_model(**fields, temperature=temperature) for temperature in (1, 1.7))
    clip = random_clip(plain.config)
    logits = warm(clip).logits
    undivided = plain.score_features(plain.fal(clip, cls_only=True).pooler_output)
    assert torch.equal(plain(clip).logits, undivided)
    assert torch.equal(logits, undivided / 1.7) and not torch.equal(logits, undivided)
    torch.testing.assert_close(warm(clip, labels=torch.tensor([0, 1])).loss, F.cross_entropy(logits, torch.arange(2)))
    warm.save_pretrained(tmp_path)
    again = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path)
    assert again.config.temperature == 1.7 and torch.equal(realigned(again)(clip).logits, logits)


def test_the_mlp_head_has_one_hidden_layer():
    model = tiny_model(classifier_hidden_size=24)
    shapes = [tuple(parameter.shape) for parameter in model.classifier.parameters()]
    assert shapes == [(24, 16), (24,), (5, 24), (5,)]
    clip = random_clip(model.config)
    hidden = nn.functional.gelu(model.classifier.dense(model.fal(clip).pooler_output))
    torch.testing.assert_close(model(clip).logits, model.classifier.out_proj(hidden))


def test_the_default_head_is_linear():
    assert isinstance(tiny_model().classifier, nn.Linear)


@pytest.mark.parametrize("field", ["hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"])
@every_scheme
def test_dropout_acts_in_training_alone(field, scheme):
    model = tiny_model(attention_type=scheme, **{field: 0.5})
    clip = random_clip(model.config, batch=4)
    assert torch.equal(model(clip).logits, model(clip).logits)
    assert torch.equal(model(clip).logits, tiny_model(attention_type=scheme)(clip).logits)
    model.train()
    set_seed(0)
    first, second = model(clip).logits, model(clip).logits
    assert not torch.equal(first, second)
    set_seed(0)
    assert torch.equal(model(clip).logits, first)


def test_stochastic_depth_grows_linearly_from_none_to_the_rate():
    model = tiny_model(num_hidden_layers=5, drop_path_rate=0.4)
    rates = [layer.drop_path.p for layer in model.fal.layers]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_stochastic_depth_leaves_out_whole_residuals_of_a_clip_and_scales_the_others():
    model = tiny_model(num_hidden_layers=2, drop_path_rate=0.5, attention_type="joint_space_time").train()
    layer = model.fal.layers[1]
    tokens = torch.randn(64, 1 + 8, 16)
    set_seed(0)
    with torch.no_grad():
        output = layer(tokens, (2, 2, 2))
    unchanged = (output == tokens).flatten(1).all(dim=1).float().mean().item()
    assert 0.05 < unchanged < 0.5  # both residuals are left out of a quarter of the clips


# ---- initialisation and saving


@every_scheme
def test_extra_steps_start_at_zero_and_the_tables_do_not(scheme):
    set_seed(0)
    model = FALVideoClassifierForVideoClassification(tiny_config(hidden_size=64, attention_type=scheme))
    for layer in model.fal.layers:
        for name, step in layer.steps.items():
            assert (step.dense is None) == (name == "main")
            if step.dense is not None:
                assert step.dense.weight.abs().max() == 0
                assert step.dense.bias.abs().max() == 0
    embeddings = model.fal.embeddings
    for table in (embeddings.cls_token, embeddings.position_embeddings, embeddings.time_embeddings):
        if table is not None:
            assert 0.01 < table.std() < 0.03
    assert (embeddings.time_embeddings is None) == (scheme == "space_only")


def test_linear_weights_start_as_a_truncated_normal_and_biases_at_zero():
    set_seed(0)
    model = FALModel(tiny_config(hidden_size=64, attention_type="joint_space_time"))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert 0.017 < module.weight.std() < 0.023
            assert module.bias.abs().max() == 0
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


@torch.no_grad()
def test_a_fresh_divided_model_sees_no_more_than_an_image_model():
    """The extra Linear is zero, so that the temporal step changes nothing before training."""
    model = FALVideoClassifierForVideoClassification(tiny_config(attention_type=DIVIDED)).eval()
    clip = random_clip(model.config)
    before = model(clip).logits
    for layer in model.fal.layers:
        layer.steps["temporal"].attention.o_proj.weight.add_(1.0)
    torch.testing.assert_close(model(clip).logits, before)


@every_variant
@torch.no_grad()
def test_saving_and_loading_is_exact(variant, tmp_path):
    model = tiny_model(classifier_hidden_size=8, **variant)
    model.save_pretrained(tmp_path)
    again, info = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    clip = random_clip(model.config)
    assert torch.equal(realigned(again).eval()(clip).logits, model(clip).logits)


def test_sharded_saving_and_loading_is_exact(tmp_path):
    model = tiny_model(num_hidden_layers=4)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(model.state_dict())
    again = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path).eval()
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_the_auto_classes_load_a_fal_folder(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is FALConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is FALModel
    again = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert type(again) is FALVideoClassifierForVideoClassification
    clip = random_clip(model.config)
    assert torch.equal(realigned(again)(clip).logits, model(clip).logits)
    assert type(AutoModelForVideoClassification.from_config(model.config)) is FALVideoClassifierForVideoClassification


def test_labels_are_stored_with_the_model(tmp_path):
    names = {index: f"class {index}" for index in range(5)}
    tiny_model(id2label=names, label2id={name: index for index, name in names.items()}).save_pretrained(tmp_path)
    config = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path).config
    assert config.id2label == names
    assert config.num_labels == 5


# ---- how it runs


@every_variant
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(variant, use_reentrant):
    model = tiny_model(**variant).train()
    clip = random_clip(model.config)
    expected = logits_and_gradients(model, clip)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    assert model.is_gradient_checkpointing
    assert_same(logits_and_gradients(model, clip), expected, tolerance=1e-5)


@every_scheme
def test_the_model_compiles_to_one_graph(scheme):
    model = tiny_model(attention_type=scheme, num_hidden_layers=1)
    clip = random_clip(model.config)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(clip).logits, model(clip).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@every_scheme
def test_the_compiled_model_gives_the_same_logits_and_gradients(scheme):
    model = tiny_model(attention_type=scheme, num_hidden_layers=1).train()
    clip = random_clip(model.config)
    expected = logits_and_gradients(model, clip)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True)
    result = logits_and_gradients(model, clip, forward=lambda _, pixel_values: compiled(pixel_values).logits)
    assert_same(result, expected, tolerance=1e-4)


@every_scheme
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_close_forward_and_backward(scheme, dtype):
    model = tiny_model(attention_type=scheme, std=0.1)
    clip = random_clip(model.config)
    expected, expected_gradients = logits_and_gradients(model, clip)
    logits, gradients = logits_and_gradients(model.to(dtype), clip)
    assert logits.dtype == dtype
    assert (logits.float() - expected).abs().max() < 0.05 * expected.abs().max()
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), name
        difference = (gradient.float() - expected_gradients[name]).norm()
        assert difference <= 0.1 * expected_gradients[name].norm() + 0.05, name


@every_scheme
@torch.no_grad()
def test_other_sizes_run_in_half_precision(scheme):
    model = tiny_model(attention_type=scheme, std=0.1)
    clip = random_clip(model.config, grid=(6, 3, 5))
    expected = model(clip).logits
    logits = model.to(torch.bfloat16)(clip.to(torch.bfloat16)).logits
    assert (logits.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_autocast_keeps_the_weights_and_runs_in_bfloat16():
    model = tiny_model(std=0.1)
    clip = random_clip(model.config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(clip).logits
    assert torch.isfinite(logits).all()
    assert (logits.float() - model(clip).logits).abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_loads_in_half_precision(tmp_path, dtype):
    tiny_model().save_pretrained(tmp_path)
    model = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@every_scheme
@torch.no_grad()
def test_a_device_map_made_by_accelerate_runs(tmp_path, scheme):
    pytest.importorskip("accelerate")
    model = tiny_model(attention_type=scheme)
    model.save_pretrained(tmp_path)
    again = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path, device_map="auto").eval()
    clip = random_clip(model.config)
    torch.testing.assert_close(again(clip.to(again.device)).logits.cpu(), model(clip).logits)


@every_scheme
@torch.no_grad()
def test_blocks_on_disk_run(tmp_path, scheme):
    pytest.importorskip("accelerate")
    model = tiny_model(attention_type=scheme)
    model.save_pretrained(tmp_path)
    devices = {"fal.embeddings": "cpu", "fal.layers.0": "cpu", "fal.layers.1": "disk"}
    devices |= {"fal.layernorm": "cpu", "classifier": "disk"}
    again = FALVideoClassifierForVideoClassification.from_pretrained(
        tmp_path, device_map=devices, offload_folder=tmp_path / "offload"
    ).eval()
    assert again.hf_device_map == devices
    assert again.fal.layers[1].mlp.fc1.weight.device.type == "meta"
    clip = random_clip(model.config)
    torch.testing.assert_close(again(clip).logits, model(clip).logits)


def test_no_block_is_split_over_devices():
    assert set(FALModel._no_split_modules) == {"FALEmbeddings", "FALLabelEmbeddings", "FALLabelLayer", "FALLayer"}


@every_scheme
def test_the_input_is_left_as_it_was(scheme):
    model = tiny_model(attention_type=scheme)
    clip = random_clip(model.config)
    copy = clip.clone()
    model(clip)
    assert torch.equal(clip, copy)


@every_scheme
@torch.no_grad()
def test_clips_that_are_no_contiguous_memory_have_the_same_logits(scheme):
    model = tiny_model(attention_type=scheme)
    clip = random_clip(model.config)
    channels_last = clip.movedim(2, -1).contiguous().movedim(-1, 2)
    assert not channels_last.is_contiguous()
    torch.testing.assert_close(model(channels_last).logits, model(clip).logits)


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time"])
def test_torch_quantizes_the_linears_dynamically(attention_type):
    model = tiny_model(attention_type=attention_type).eval()
    clip = random_clip(model.config)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
        difference = (quantized(clip).logits - model(clip).logits).abs().max()
    assert any("dynamic" in type(module).__module__ for module in quantized.modules())
    assert 0 < difference < 0.1
