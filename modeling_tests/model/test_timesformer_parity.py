"""FAL on folders in the layout of transformers' TimeSformer, which the published checkpoints have."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_fal import randomise, realigned
from torch.nn import functional as F
from transformers import AutoConfig, TimesformerConfig, TimesformerForVideoClassification, TimesformerModel

from fal_hf import FALConfig, FALModel, FALVideoClassifierForVideoClassification


def timesformer(attention_type: str, *, frames: int = 4, model_class=TimesformerForVideoClassification, **fields):
    config = TimesformerConfig(
        image_size=32,
        patch_size=8,
        num_frames=frames,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        attention_type=attention_type,
        num_labels=6,
        **fields,
    )
    model = model_class(config)
    randomise(model, std=0.2)
    return model.eval()


def clips(frames: int = 4, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def published_layout(folder, model):
    """As the published checkpoint may be: its weights' names, and a model type "fal" in the configuration."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert "cls_in_temporal_attention" not in config
    path.write_text(json.dumps(config | {"model_type": "fal", "architectures": ["FALVideoClassifier"]}))


def load(folder, model_class=FALVideoClassifierForVideoClassification, **kwargs):
    """Loads a folder and checks that each weight of the model came from it."""
    model, info = model_class.from_pretrained(folder, output_loading_info=True, **kwargs)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    return model.eval(), info


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time"])
@pytest.mark.parametrize("qkv_bias", [True, False])
@torch.no_grad()
def test_logits_equal_those_of_timesformer(tmp_path, attention_type, qkv_bias):
    expected = timesformer(attention_type, qkv_bias=qkv_bias)
    expected.save_pretrained(tmp_path)
    model, info = load(tmp_path)
    assert not info["unexpected_keys"]
    assert model.config.attention_type == attention_type
    torch.testing.assert_close(model(clips()).logits, expected(clips()).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_logits_equal_those_of_timesformer_with_the_model_type_fal(tmp_path, attention_type, attention):
    expected = timesformer(attention_type)
    published_layout(tmp_path, expected)
    model, _ = load(tmp_path, attn_implementation=attention)
    assert model.config.cls_in_temporal_attention is False
    torch.testing.assert_close(model(clips()).logits, expected(clips()).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_cls_key_in_time_would_give_other_logits(tmp_path):
    expected = timesformer("divided_space_time")
    expected.save_pretrained(tmp_path)
    model, _ = load(tmp_path, cls_in_temporal_attention=True)
    assert (model(clips()).logits - expected(clips()).logits).abs().max() > 1e-3


def test_gradients_equal_those_of_timesformer(tmp_path):
    expected = timesformer("divided_space_time")
    expected.save_pretrained(tmp_path)
    model, _ = load(tmp_path)
    gradients = []
    for each in (model, expected):
        pixel_values = clips().requires_grad_()
        each(pixel_values).logits.square().sum().backward()
        gradients.append(pixel_values.grad)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time"])
@pytest.mark.parametrize("from_base", [True, False])
@torch.no_grad()
def test_the_base_model_loads_from_a_classifier_and_from_a_base_model(tmp_path, attention_type, from_base):
    expected = timesformer(attention_type)
    (expected.timesformer if from_base else expected).save_pretrained(tmp_path)
    model, _ = load(tmp_path, FALModel)
    tokens = expected.timesformer(clips()).last_hidden_state
    # TimeSformer orders patches by row, column, time; FAL by time, row, column
    patches = tokens[:, 1:].unflatten(1, (4, 4, 4)).movedim(3, 1).flatten(1, 3)
    outputs = model(clips())
    torch.testing.assert_close(outputs.pooler_output, tokens[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.last_hidden_state[:, 1:], patches, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_classifier_loads_from_a_base_model_with_a_fresh_head(tmp_path):
    timesformer("divided_space_time", model_class=TimesformerModel).save_pretrained(tmp_path)
    model, info = FALVideoClassifierForVideoClassification.from_pretrained(
        tmp_path, num_labels=9, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert model(clips()).logits.shape == (2, 9)
    assert torch.isfinite(model(clips()).logits).all()


def reference_space_only_logits(model, pixel_values):
    """The reference code's way: an image transformer a frame, the mean of the frames, then the last norm."""
    frames = pixel_values.shape[1]
    hidden_states = model.timesformer.embeddings(pixel_values)  # (B·T, 1 + H·W, D)
    for layer in model.timesformer.encoder.layer:
        hidden_states = layer(hidden_states)[0]
    mean = hidden_states.unflatten(0, (-1, frames)).mean(dim=1)
    return model.classifier(model.timesformer.layernorm(mean)[:, 0])


@torch.no_grad()
def test_space_only_averages_the_frames_before_the_last_norm_as_the_reference_does(tmp_path):
    expected = timesformer("space_only")
    expected.save_pretrained(tmp_path)
    model, _ = load(tmp_path)
    reference = reference_space_only_logits(expected, clips())
    assert reference.shape == (2, 6)
    torch.testing.assert_close(model(clips()).logits, reference, atol=1e-5, rtol=1e-5)
    assert expected(clips()).logits.shape == (8, 6)  # what transformers' port gives: a row a frame


@torch.no_grad()
def test_another_number_of_labels_keeps_all_but_the_head(tmp_path):
    expected = timesformer("divided_space_time")
    expected.save_pretrained(tmp_path)
    model, info = FALVideoClassifierForVideoClassification.from_pretrained(
        tmp_path, num_labels=11, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key[0] for key in info["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    assert model(clips()).logits.shape == (2, 11)
    pooled = model.eval().fal(clips()).pooler_output
    torch.testing.assert_close(pooled, expected.timesformer(clips())[0][:, 0], atol=1e-5, rtol=1e-5)


def test_another_number_of_labels_is_refused_unless_asked_for(tmp_path):
    timesformer("divided_space_time").save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        FALVideoClassifierForVideoClassification.from_pretrained(tmp_path, num_labels=11)


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time", "space_only"])
@torch.no_grad()
def test_saving_writes_fal_names_after_loading_the_other_layout(tmp_path, attention_type):
    timesformer(attention_type).save_pretrained(tmp_path / "timesformer")
    model, _ = load(tmp_path / "timesformer")
    model.save_pretrained(tmp_path / "fal")
    names = set(load_file(tmp_path / "fal" / "model.safetensors"))
    assert names == set(model.state_dict())
    assert not any("timesformer" in name or "encoder" in name for name in names)
    assert AutoConfig.from_pretrained(tmp_path / "fal").to_dict()["cls_in_temporal_attention"] is False
    again, info = load(tmp_path / "fal")
    assert not info["unexpected_keys"]
    assert torch.equal(realigned(again)(clips()).logits, realigned(model)(clips()).logits)


def test_every_weight_of_the_other_layout_is_used(tmp_path):
    expected = timesformer("divided_space_time")
    expected.save_pretrained(tmp_path)
    model, _ = load(tmp_path)
    theirs = sorted(parameter.double().sum().item() for parameter in expected.parameters())
    ours = sorted(parameter.double().sum().item() for parameter in model.parameters())
    assert ours == pytest.approx(theirs)


@torch.no_grad()
def test_the_patch_kernel_is_laid_out_as_channels_rows_columns(tmp_path):
    expected = timesformer("joint_space_time")
    expected.save_pretrained(tmp_path)
    model, _ = load(tmp_path)
    convolution = expected.timesformer.embeddings.patch_embeddings.projection
    frames = clips()
    patches = F.conv2d(frames.flatten(0, 1), convolution.weight, convolution.bias, stride=8)  # (B·T, D, H, W)
    patches = patches.unflatten(0, (2, 4)).movedim(2, -1)
    torch.testing.assert_close(model.fal.embeddings.patch_embeddings(frames), patches, atol=1e-5, rtol=1e-5)


def test_a_timesformer_folder_still_is_timesformer_for_the_auto_classes(tmp_path):
    timesformer("divided_space_time").save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is TimesformerConfig
    assert type(FALConfig.from_pretrained(tmp_path)) is FALConfig
