"""Conversion of foreign checkpoints: what the converted folder computes, and what is written."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import foreign_checkpoints
import pytest
import torch
from foreign_checkpoints import (
    CLASSES,
    FRAMES,
    HEADS,
    PATCH,
    SIDE,
    WIDTH,
    change_image_state,
    image_logits,
    image_state,
    moving_clip,
    reference_checkpoint,
    reference_logits,
    save_pickle,
    still_clip,
    tiny_timesformer,
    tiny_vit,
)
from safetensors.torch import load_file, save_file
from tiny_fal import realigned, tiny_config, tiny_model
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    TimesformerForVideoClassification,
    TimesformerModel,
    VideoMAEImageProcessor,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTImageProcessor,
    ViTModel,
)

from fal_hf import FALModel, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.conversion import ConversionError, ConversionOptions, checkpoint_files, convert, converter
from fal_hf.conversion.checkpoint_files import read_labels
from fal_hf.conversion.checkpoint_layouts import read_source
from fal_hf.model.attention_schemes import ATTENTION_SCHEMES, ATTENTION_TYPES
from fal_hf.model.frames import PixelDefaults

SCHEMES = ["divided_space_time", "joint_space_time", "space_only"]


def load(folder: Path, model_class=FALVideoClassifierForVideoClassification):
    return model_class.from_pretrained(folder, dtype=torch.float32).eval()


def assert_close(result: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5):
    torch.testing.assert_close(result, expected, atol=tolerance, rtol=tolerance)


# ---- video models ----


@pytest.mark.parametrize("attention_type", ["divided_space_time", "joint_space_time"])
@torch.no_grad()
def test_a_timesformer_folder_keeps_its_logits(tmp_path, output, attention_type):
    expected = tiny_timesformer(TimesformerForVideoClassification, attention_type, layer_norm_eps=1e-3)
    expected.save_pretrained(tmp_path / "source")
    conversion = convert(tmp_path / "source", output)
    model = load(output)
    assert model.config.attention_type == attention_type
    assert model.config.cls_in_temporal_attention is False
    assert_close(model(moving_clip()).logits, expected(moving_clip()).logits)
    assert conversion.comparison.difference < 1e-5
    assert conversion.comparison.model == "TimesformerForVideoClassification"
    assert not conversion.new
    assert not conversion.left_out
    assert len(conversion.used) == len(expected.state_dict())


@torch.no_grad()
def test_a_space_only_timesformer_folder_gives_the_mean_of_its_frames(tmp_path, output):
    expected = tiny_timesformer(TimesformerForVideoClassification, "space_only")
    expected.save_pretrained(tmp_path / "source")
    convert(tmp_path / "source", output)
    hidden_states = expected.timesformer.embeddings(moving_clip())
    for layer in expected.timesformer.encoder.layer:
        hidden_states = layer(hidden_states)[0]
    mean = hidden_states.unflatten(0, (-1, FRAMES)).mean(dim=1)
    model = load(output)
    assert model.config.attention_type == "space_only"
    assert_close(model(moving_clip()).logits, expected.classifier(expected.timesformer.layernorm(mean)[:, 0]))


@torch.no_grad()
def test_the_published_layout_has_timesformer_names_and_the_model_type_fal(timesformer_folder, tmp_path, output):
    source = tmp_path / "published"
    source.mkdir()
    config = json.loads((timesformer_folder / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": "fal"}))
    save_file(load_file(timesformer_folder / "model.safetensors"), source / "model.safetensors")
    assert convert(source, output).comparison.difference < 1e-5
    assert load(output).config.id2label[3] == "action 3"


@torch.no_grad()
def test_a_timesformer_base_model_gets_a_new_head(tmp_path, output):
    expected = tiny_timesformer(TimesformerModel)
    expected.save_pretrained(tmp_path / "source")
    conversion = convert(tmp_path / "source", output)
    assert conversion.new.keys() == {"classifier.weight", "classifier.bias"}
    assert conversion.comparison.output == "CLS embedding"
    pooled = load(output, FALModel)(moving_clip()).pooler_output
    assert_close(pooled, expected(moving_clip()).last_hidden_state[:, 0])


@pytest.mark.parametrize("attention_type", SCHEMES)
@torch.no_grad()
def test_a_reference_checkpoint_keeps_its_logits(tmp_path, output, attention_type):
    checkpoint = reference_checkpoint(attention_type)
    source = save_pickle(tmp_path / "checkpoint.pyth", checkpoint)
    conversion = convert(source, output, ConversionOptions(num_attention_heads=HEADS))
    expected = reference_logits(checkpoint["model_state"], moving_clip(), attention_type)
    model = load(output)
    assert model.config.attention_type == attention_type
    assert_close(model(moving_clip()).logits, expected)
    assert conversion.comparison.difference < 1e-5
    assert list(FALVideoProcessor.from_pretrained(output).image_mean) == [0.45, 0.45, 0.45]


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
@torch.no_grad()
def test_a_bare_reference_state_dict_is_recognised_with_and_without_prefix(tmp_path, output, prefix):
    state = reference_checkpoint()["model_state"]
    renamed = {prefix + name.removeprefix("model."): tensor for name, tensor in state.items()}
    source = save_pickle(tmp_path / "weights.pth", renamed)
    convert(source, output, ConversionOptions(num_attention_heads=HEADS))
    assert_close(load(output)(moving_clip()).logits, reference_logits(state, moving_clip(), "divided_space_time"))


@torch.no_grad()
def test_a_checkpoint_in_the_old_format_of_torch_is_read(tmp_path, output):
    state = reference_checkpoint()["model_state"]
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    convert(tmp_path / "old.pth", output, ConversionOptions(num_attention_heads=HEADS))
    assert_close(load(output)(moving_clip()).logits, reference_logits(state, moving_clip(), "divided_space_time"))


def test_a_video_model_keeps_its_scheme(timesformer_folder, output):
    with pytest.raises(ConversionError, match=r"expected attention_type divided_space_time, got axial"):
        convert(timesformer_folder, output, ConversionOptions(attention_type="axial"))
    assert not output.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"attention_type": "sparse_local_global"},
        {"attention_type": "axial", "qkv_bias": False},
        {"attention_type": "divided_space_time", "attention_order": "parallel", "classifier_hidden_size": 8},
        {"attention_type": "joint_space_time", "position_embedding_type": "space_only"},
        {"attention_type": "space_only", "position_embedding_type": "none"},
        {"attention_type": "divided_space_time", "position_embedding_type": "none"},
        {"attention_type": "divided_space_time", "temperature": 1.7},
    ],
    ids=lambda fields: "-".join(str(value) for value in fields.values()),
)
@torch.no_grad()
def test_a_fal_folder_stays_what_it_is(tmp_path, output, fields):
    expected = tiny_model(tiny_config(grid=(3, 4, 2), **fields))
    expected.save_pretrained(tmp_path / "source")
    conversion = convert(tmp_path / "source", output)
    clip = moving_clip(frames=3, height=16, width=8)
    model = load(output)
    assert torch.equal(realigned(model)(clip).logits, expected(clip).logits)
    assert model.config.to_diff_dict() == AutoConfig.from_pretrained(tmp_path / "source").to_diff_dict()
    assert conversion.used and not conversion.new


def test_a_temperature_goes_with_the_scores_that_it_was_made_for(tmp_path):
    tiny_model(grid=(FRAMES, 4, 4), patch_size=PATCH, temperature=1.7).save_pretrained(tmp_path / "fal")
    options = {
        "kept": ConversionOptions(num_frames=2),
        "new head": ConversionOptions(new_head=True),
        "tokens": ConversionOptions(label_attention="divided", label_integration_layer=1),
    }
    found = {name: convert(tmp_path / "fal", tmp_path / name, each) for name, each in options.items()}
    assert {name: one.config.temperature for name, one in found.items()} == {"kept": 1.7, "new head": 1, "tokens": 1}
    assert found["kept"].comparison.output == "logits"


@pytest.mark.parametrize("attention_type", ["divided_space_time", "axial"])
@torch.no_grad()
def test_a_space_only_model_is_inflated_like_an_image_model(tmp_path, output, attention_type):
    source = save_pickle(tmp_path / "checkpoint.pyth", reference_checkpoint("space_only"))
    conversion = convert(source, output, ConversionOptions(attention_type=attention_type, num_attention_heads=HEADS))
    assert conversion.config.attention_type == attention_type
    assert conversion.comparison.difference < 1e-5
    expected = convert(source, tmp_path / "space_only", ConversionOptions(num_attention_heads=HEADS))
    assert expected.config.attention_type == "space_only"
    frames, rows, columns = ATTENTION_SCHEMES[attention_type].image_grid((FRAMES, SIDE // PATCH, SIDE // PATCH))
    clip = still_clip(frames=frames, height=rows * PATCH, width=columns * PATCH)
    assert_close(load(output)(clip).logits, load(expected.output)(clip).logits)


# What a file may lack without being anything else than a space-only TimeSformer of the reference.
SPACE_ONLY_FILES = {
    "without cfg": lambda state, cfg: {"model_state": state},
    "cfg that says nothing": lambda state, cfg: {"model_state": state, "cfg": "TRAIN: {}"},
    "several GPUs": lambda state, cfg: {"model_state": {f"module.{name}": state[name] for name in state}},
    "cfg without prefix": lambda state, cfg: {"model_state": without_prefix(state), "cfg": cfg},
    "cfg beside another wrapper": lambda state, cfg: {"state_dict": without_prefix(state), "cfg": cfg},
}


def without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


@pytest.mark.parametrize("file", SPACE_ONLY_FILES)
@torch.no_grad()
def test_a_space_only_reference_checkpoint_is_told_from_an_image_model_by_its_wrapper(tmp_path, output, file):
    checkpoint = reference_checkpoint("space_only")
    state = checkpoint["model_state"]
    source = save_pickle(tmp_path / "checkpoint.pyth", SPACE_ONLY_FILES[file](state, checkpoint["cfg"]))
    conversion = convert(source, output, ConversionOptions(num_attention_heads=HEADS))
    assert conversion.source.layout.name == "TimeSformer reference"
    assert conversion.config.attention_type == "space_only" and not conversion.copied
    assert tuple(conversion.processor.image_mean) == PixelDefaults.image_mean == (0.45, 0.45, 0.45)
    assert_close(load(output)(moving_clip()).logits, reference_logits(state, moving_clip(), "space_only"))


AMBIGUOUS_FILES = {
    "prefix alone": lambda state: state,
    "prefix in another wrapper": lambda state: {"state_dict": state},
    "wrapper alone": lambda state: {"model_state": without_prefix(state)},
}


@pytest.mark.parametrize("file", AMBIGUOUS_FILES)
@torch.no_grad()
def test_the_scheme_settles_what_could_be_a_space_only_timesformer_or_an_image_model(tmp_path, file):
    state = reference_checkpoint("space_only")["model_state"]
    source = save_pickle(tmp_path / "weights.pth", AMBIGUOUS_FILES[file](state))
    with pytest.raises(
        ConversionError, match=r"could be either; give --attention-type: space_only for the TimeSformer"
    ):
        convert(source, tmp_path / "none", ConversionOptions(num_attention_heads=HEADS))
    video, image = (
        convert(source, tmp_path / scheme, ConversionOptions(attention_type=scheme, num_attention_heads=HEADS))
        for scheme in ("space_only", "divided_space_time")
    )
    assert_close(load(video.output)(moving_clip()).logits, reference_logits(state, moving_clip(), "space_only"))
    assert video.source.preprocessing_origin == "assumed: timesformer"
    assert_close(load(image.output)(still_clip()).logits, image_logits(without_prefix(state), still_clip()[:, 0]))
    assert (image.source.layout.name, image.source.preprocessing_origin) == ("timm ViT", "assumed: vit")


# ---- image models ----


@pytest.mark.parametrize("attention_type", ["divided_space_time", "space_only"])
@pytest.mark.parametrize("model_class", [ViTForImageClassification, ViTModel])
@torch.no_grad()
def test_an_inflated_model_sees_a_still_video_as_the_image_model_sees_the_image(
    tmp_path, output, attention_type, model_class
):
    expected = tiny_vit(model_class)
    expected.save_pretrained(tmp_path / "source")
    conversion = convert(tmp_path / "source", output, ConversionOptions(attention_type=attention_type, num_frames=5))
    clip = still_clip(frames=5)
    if model_class is ViTForImageClassification:
        assert_close(load(output)(clip).logits, expected(clip[:, 0]).logits)
    else:
        pooled = load(output, FALModel)(clip).pooler_output
        assert_close(pooled, expected(clip[:, 0]).last_hidden_state[:, 0])
        assert all(name.startswith("pooler.") for name in conversion.left_out) and conversion.left_out
    assert load(output).config.layer_norm_eps == 1e-12
    assert conversion.comparison.model == model_class.__name__


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@torch.no_grad()
def test_every_scheme_equals_the_image_model_where_it_sees_what_the_image_model_sees(
    vit_folder, output, attention_type
):
    convert(vit_folder, output, ConversionOptions(attention_type=attention_type, num_frames=3))
    model = load(output)
    assert model.config.attention_type == attention_type
    frames, rows, columns = ATTENTION_SCHEMES[attention_type].image_grid((3, SIDE // PATCH, SIDE // PATCH))
    clip = still_clip(frames=frames, height=rows * PATCH, width=columns * PATCH)
    expected = ViTForImageClassification.from_pretrained(vit_folder).eval()
    assert_close(model(clip).logits, expected(clip[:, 0], interpolate_pos_encoding=True).logits)


@torch.no_grad()
def test_the_comparison_of_joint_and_axial_attention_is_as_far_as_equality_goes(vit_folder, tmp_path):
    expected = ViTForImageClassification.from_pretrained(vit_folder).eval()(still_clip()[:, 0]).logits
    for attention_type in ("joint_space_time", "axial", "sparse_local_global"):
        convert(vit_folder, tmp_path / attention_type, ConversionOptions(attention_type=attention_type))
        assert (load(tmp_path / attention_type)(still_clip()).logits - expected).abs().max() > 1e-3


@pytest.mark.parametrize("attention_type", ["divided_space_time", "sparse_local_global", "axial"])
def test_extra_steps_are_copies_that_end_in_zeros(vit_folder, output, attention_type):
    conversion = convert(vit_folder, output, ConversionOptions(attention_type=attention_type))
    tensors = load_file(output / "model.safetensors")
    extra = {name: tensor for name, tensor in tensors.items() if ".steps." in name and ".main." not in name}
    assert set(conversion.copied) == extra.keys()
    for name, tensor in extra.items():
        step = name.split(".steps.")[1].split(".")[0]
        if ".dense." in name:
            assert not tensor.any()
        else:
            assert torch.equal(tensor, tensors[name.replace(f".{step}.", ".main.")])


def test_the_time_table_starts_at_zero_or_as_large_as_the_positions(vit_folder, tmp_path):
    tables = {}
    for kind in ("zero", "normal"):
        conversion = convert(vit_folder, tmp_path / kind, ConversionOptions(time_table=kind, num_frames=64))
        tables[kind] = load_file(tmp_path / kind / "model.safetensors")
        assert conversion.new == {"fal.embeddings.time_embeddings": kind}
        assert conversion.comparison.difference < 1e-5
    assert not tables["zero"]["fal.embeddings.time_embeddings"].any()
    positions = tables["normal"]["fal.embeddings.position_embeddings"][:, 1:]
    assert tables["normal"]["fal.embeddings.time_embeddings"].std().item() == pytest.approx(
        positions.std().item(), rel=0.1
    )


@pytest.mark.parametrize("original", [True, False], ids=["names-of-files", "names-of-classes"])
@pytest.mark.parametrize("qkv_bias", [True, False])
@torch.no_grad()
def test_a_vit_folder_is_read_under_both_of_its_namings(tmp_path, output, original, qkv_bias):
    expected = tiny_vit(qkv_bias=qkv_bias)
    expected.save_pretrained(tmp_path / "source", save_original_format=original)
    convert(tmp_path / "source", output)
    assert_close(load(output)(still_clip()).logits, expected(still_clip()[:, 0]).logits)


def test_a_masked_image_model_leaves_its_decoder_behind(tmp_path, output):
    tiny_vit(ViTForMaskedImageModeling, encoder_stride=PATCH).save_pretrained(tmp_path / "source")
    conversion = convert(tmp_path / "source", output)
    assert conversion.left_out.keys() == {"decoder.0.weight", "decoder.0.bias", "vit.embeddings.mask_token"}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@torch.no_grad()
def test_a_timm_state_dict_is_inflated(tmp_path, output, suffix):
    state = image_state()
    source = tmp_path / f"vit{suffix}"
    save_file(state, source) if suffix == ".safetensors" else torch.save(state, source)
    conversion = convert(source, output, ConversionOptions(num_attention_heads=HEADS))
    assert_close(load(output)(still_clip()).logits, image_logits(state, still_clip()[:, 0]))
    assert load(output).config.layer_norm_eps == 1e-6
    assert list(conversion.processor.image_mean) == [0.5, 0.5, 0.5]


@torch.no_grad()
def test_heads_that_nothing_tells_have_64_channels_and_people_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_checkpoints, "WIDTH", 192 + 64)
    monkeypatch.setattr(foreign_checkpoints, "HEADS", 4)
    state = image_state()
    source = save_pickle(tmp_path / "vit.pth", state)
    assumed = convert(source, tmp_path / "assumed")
    assert_close(load(assumed.output)(still_clip()).logits, image_logits(state, still_clip()[:, 0]), 1e-4)
    assert assumed.summary()["blocks"] == "2 of width 256, 4 heads (assumed: 64 channels each)"
    assert "does not tell its attention heads: 4 heads (assumed: 64" in (assumed.output / "README.md").read_text()
    given = convert(source, tmp_path / "given", ConversionOptions(num_attention_heads=8))
    assert given.summary()["blocks"] == "2 of width 256, 8 heads"
    assert "attention heads:" not in (given.output / "README.md").read_text()


@pytest.mark.parametrize(
    ("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1152, 16), (1280, 16), (1408, 16), (1664, 16)]
)
def test_heads_of_published_widths_are_those_of_the_published_models(tmp_path, monkeypatch, width, heads):
    monkeypatch.setattr(foreign_checkpoints, "WIDTH", width)
    source = read_source(save_pickle(tmp_path / "vit.pth", image_state()))
    assert source.config.num_attention_heads == heads and source.assumes_heads


def test_a_configuration_that_tells_the_heads_is_no_assumption(vit_folder):
    assert not read_source(vit_folder).assumes_heads


# DeiT stores its weights under "model", DINO publishes a backbone, and trains a teacher with a projection head
FAMILIES = {
    "deit": lambda state: {"model": state},
    "dino": lambda state: {name: state[name] for name in state if not name.startswith("head.")},
    "dino-training": lambda state: {
        "student": {f"module.backbone.{name}": tensor * 2 for name, tensor in state.items() if "head." not in name},
        "teacher": {f"backbone.{name}": tensor for name, tensor in state.items() if "head." not in name}
        | {"head.mlp.0.weight": torch.ones(2, WIDTH), "head.last_layer.weight_v": torch.ones(2, 2)},
        "epoch": 3,
    },
}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_deit_and_dino_are_inflated_and_normalised_as_imagenet(tmp_path, output, family):
    state = image_state()
    source = save_pickle(tmp_path / f"{family}.pth", FAMILIES[family](state))
    conversion = convert(source, output, ConversionOptions(num_attention_heads=HEADS))
    frame = still_clip()[:, 0]
    if family == "deit":
        assert_close(load(output)(still_clip()).logits, image_logits(state, frame))
    else:
        headless = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        assert_close(load(output, FALModel)(still_clip()).pooler_output, image_logits(headless, frame))
    assert list(conversion.processor.image_mean) == [0.485, 0.456, 0.406]
    assert len(conversion.left_out) == (2 if family == "dino-training" else 0)


def write_timm_folder(folder: Path, **settings) -> Path:
    folder.mkdir()
    save_file(image_state(), folder / "model.safetensors")
    pretrained = {"input_size": [3, SIDE, SIDE], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    pretrained |= {"interpolation": "bicubic", "label_names": [f"thing {i}" for i in range(CLASSES)]}
    config = {"architecture": "vit_tiny", "num_classes": CLASSES, "num_features": WIDTH, "global_pool": "token"}
    (folder / "config.json").write_text(json.dumps(config | {"pretrained_cfg": pretrained} | settings))
    return folder


def test_a_timm_folder_brings_labels_and_preprocessing(tmp_path, output):
    conversion = convert(write_timm_folder(tmp_path / "timm"), output, ConversionOptions(num_attention_heads=HEADS))
    assert list(conversion.processor.image_std) == [0.4, 0.5, 0.6]
    assert conversion.config.id2label[5] == "thing 5"
    assert conversion.processor.resample == 3


def test_a_timm_folder_that_averages_patches_is_refused(tmp_path, output):
    source = write_timm_folder(tmp_path / "timm", global_pool="avg")
    with pytest.raises(ConversionError, match="global_pool 'avg'"):
        convert(source, output, ConversionOptions(num_attention_heads=HEADS))


# ---- sizes ----


@torch.no_grad()
def test_smooth_tables_are_those_that_the_model_makes_for_the_size_itself(timesformer_folder, output):
    conversion = convert(timesformer_folder, output, ConversionOptions(num_frames=6, image_size=(40, 48)))
    assert len(conversion.resized) == 2
    model = load(output)
    assert model.config.num_frames == 6 and list(model.config.image_size) == [40, 48]
    clip = moving_clip(frames=6, height=40, width=48)
    assert_close(model(clip, interpolate_pos_encoding=False).logits, load(timesformer_folder)(clip).logits)


def test_nearest_tables_are_those_of_the_reference(timesformer_folder, output):
    convert(timesformer_folder, output, ConversionOptions(num_frames=6, image_size=48, resize="nearest"))
    source, tables = load_file(timesformer_folder / "model.safetensors"), load_file(output / "model.safetensors")
    positions = source["timesformer.embeddings.position_embeddings"][0]
    # the reference: along the flat sequence of 16 patches, of which 36 are made
    expected = positions[1:][torch.arange(36) * 16 // 36]
    assert torch.equal(tables["fal.embeddings.position_embeddings"][0], torch.cat([positions[:1], expected]))
    times = source["timesformer.embeddings.time_embeddings"][0]
    assert torch.equal(tables["fal.embeddings.time_embeddings"][0], times[torch.arange(6) * FRAMES // 6])
    nearest = F.interpolate(positions[1:].T[None], size=36, mode="nearest")[0].T
    assert torch.equal(nearest, expected)


def test_a_size_that_patches_do_not_divide_is_refused(vit_folder, output):
    with pytest.raises(ConversionError, match="patch_size=8 divides"):
        convert(vit_folder, output, ConversionOptions(image_size=30))


def test_a_new_head_leaves_the_old_one_out(vit_folder, tmp_path, output):
    (tmp_path / "labels.txt").write_text("left\nright\nup\n")
    conversion = convert(vit_folder, output, ConversionOptions(labels=tmp_path / "labels.txt", new_head=True))
    assert conversion.config.id2label == {0: "left", 1: "right", 2: "up"}
    assert conversion.left_out == dict.fromkeys(["classifier.bias", "classifier.weight"], "replaced by a new head")
    assert conversion.comparison.output == "CLS embedding"
    head = load_file(output / "model.safetensors")["classifier.weight"]
    assert head.shape == (3, WIDTH) and head.std() > 0
    torch.rand(1)  # another state of the generator
    again = convert(vit_folder, tmp_path / "again", ConversionOptions(labels=tmp_path / "labels.txt", new_head=True))
    assert torch.equal(load_file(again.output / "model.safetensors")["classifier.weight"], head)


# ---- files ----


def test_shards_are_read_and_written(tmp_path, output):
    expected = tiny_vit()
    expected.save_pretrained(tmp_path / "source", max_shard_size="10KB")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 1
    convert(tmp_path / "source", output, ConversionOptions(max_shard_size="20KB"))
    assert len(list(output.glob("*.safetensors"))) > 1
    with torch.no_grad():
        assert_close(load(output)(still_clip()).logits, expected(still_clip()[:, 0]).logits)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "missing.safetensors", "config.json", ""])
def test_an_index_that_names_other_files_is_refused(vit_folder, tmp_path, output, name):
    save_file(image_state(), tmp_path / "outside.safetensors")
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text((vit_folder / "config.json").read_text())
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"cls_token": name}}))
    with pytest.raises(ConversionError, match="expected"):
        convert(source, output)


def test_a_folder_of_several_checkpoints_is_not_guessed_at(tmp_path, output):
    for name in ("a.pth", "b.pth"):
        torch.save(image_state(), tmp_path / name)
    with pytest.raises(ConversionError, match=r"got a\.pth, b\.pth; give the path of the file itself"):
        convert(tmp_path, output)
    with pytest.raises(ConversionError, match="got none"):
        (tmp_path / "empty").mkdir()
        convert(tmp_path / "empty", output)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float16, torch.float16), (torch.bfloat16, torch.bfloat16), ("bfloat16", torch.bfloat16)],
    ids=str,
)
def test_another_precision_is_compared_with_the_source_in_that_precision(timesformer_folder, output, dtype, kept):
    conversion = convert(timesformer_folder, output, ConversionOptions(dtype=dtype))
    assert {tensor.dtype for tensor in load_file(output / "model.safetensors").values()} == {kept}
    assert conversion.comparison.difference < 1e-5
    assert json.loads((output / "config.json").read_text())["dtype"] == str(kept).removeprefix("torch.")


@pytest.mark.parametrize(
    ("stored", "kept"), [(torch.bfloat16, torch.bfloat16), (torch.float64, torch.float32)], ids=str
)
def test_the_precision_is_the_sources_unless_asked_for(tmp_path, output, stored, kept):
    state = {name: tensor.to(stored) for name, tensor in image_state().items()}
    source = save_pickle(tmp_path / "a.pth", state)
    assert convert(source, output, ConversionOptions(num_attention_heads=HEADS)).dtype is kept


def test_numbers_beyond_float16_are_refused(tmp_path, output):
    source = save_pickle(tmp_path / "a.pth", change_image_state(head__bias=torch.full((CLASSES,), 1e6)))
    with pytest.raises(ConversionError, match=r"beyond the range of torch\.float16"):
        convert(source, output, ConversionOptions(num_attention_heads=HEADS, dtype=torch.float16))


def test_a_folder_that_exists_is_left_alone(vit_folder, output):
    output.mkdir()
    (output / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ConversionError, match="choose another"):
            convert(vit_folder, output, ConversionOptions(overwrite=overwrite))
    assert os.listdir(output) == ["thesis.txt"]


def test_a_fal_folder_is_replaced_as_a_whole_where_asked_for(vit_folder, timesformer_folder, output):
    output.mkdir()  # an empty one is as good as none
    convert(vit_folder, output, ConversionOptions(with_code=True))
    assert (output / "modeling_fal.py").is_file()
    with pytest.raises(ConversionError, match="--overwrite"):
        convert(timesformer_folder, output)
    convert(timesformer_folder, output, ConversionOptions(overwrite=True))
    assert not (output / "modeling_fal.py").exists()
    assert load(output).config.id2label[0] == "action 0"
    assert os.listdir(output.parent) == ["converted"]


def test_a_failure_leaves_nothing_and_keeps_what_was_there(vit_folder, output, monkeypatch):
    convert(vit_folder, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    other = replace(convert(vit_folder, output.with_name("other")).comparison, difference=1.0)
    shutil.rmtree(output.with_name("other"))
    with monkeypatch.context() as patch:
        patch.setattr(converter, "compare", lambda *args, **kwargs: other)
        with pytest.raises(ConversionError, match=r"expected a difference of at most .* nothing was written"):
            convert(vit_folder, output, ConversionOptions(overwrite=True))

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FALVideoProcessor, "save_pretrained", fail)
    with pytest.raises(OSError, match="No space left"):
        convert(vit_folder, output, ConversionOptions(overwrite=True))
    with pytest.raises(OSError, match="No space left"):
        convert(vit_folder, output.parent / "another")
    assert os.listdir(output.parent) == ["converted"]
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize(
    "options",
    [
        {"license": "none"},
        {"time_table": "one"},
        {"resize": "cubic"},
        {"preprocessing": "none"},
        {"dtype": torch.int8},
        {"attention_type": "all"},
        {"num_frames": 0},
        {"num_attention_heads": 0},
        {"tolerance": -1.0},
        {"tolerance": float("nan")},
    ],
    ids=str,
)
def test_options_are_checked(options):
    with pytest.raises(ConversionError, match="expected"):
        ConversionOptions(**options)


def test_the_folder_loads_in_every_way(vit_folder, output):
    convert(vit_folder, output)
    assert isinstance(
        AutoModelForVideoClassification.from_pretrained(output), FALVideoClassifierForVideoClassification
    )
    processor = AutoVideoProcessor.from_pretrained(output)
    clip = processor([torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)] * 8, return_tensors="pt")["pixel_values"]
    assert clip.shape == (1, 8, 3, SIDE, SIDE)
    assert "ViTForImageClassification's" in (output / "README.md").read_text()


# ---- processors ----


def test_the_sources_preprocessing_is_kept(vit_folder, tmp_path, output):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).symlink_to(vit_folder / name)
    size = {"height": SIDE, "width": SIDE}
    ViTImageProcessor(size=size, image_mean=[0.1, 0.2, 0.3], image_std=[0.4] * 3, resample=3).save_pretrained(source)
    processor = convert(source, output).processor
    assert list(processor.image_mean) == [0.1, 0.2, 0.3]
    assert (list(processor.image_std), processor.resample) == ([0.4] * 3, 3)
    assert dict(FALVideoProcessor.from_pretrained(output).size) == size
    frames = torch.randint(0, 256, (2, 3, 20, 50), dtype=torch.uint8)
    expected = ViTImageProcessor.from_pretrained(source)(list(frames), return_tensors="pt")["pixel_values"]
    result = processor(frames, num_frames=2, return_tensors="pt")["pixel_values"][0]
    assert (result - expected).abs().max() < 0.02
    larger = convert(source, tmp_path / "larger", ConversionOptions(image_size=48)).processor
    assert dict(larger.size) == dict(larger.crop_size) == {"height": 48, "width": 48}


def test_sizes_of_the_preprocessing_grow_with_the_frames(timesformer_folder, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).symlink_to(timesformer_folder / name)
    crop_size = {"height": SIDE, "width": SIDE}
    VideoMAEImageProcessor(size={"shortest_edge": 40}, crop_size=crop_size).save_pretrained(source)
    processor = convert(source, tmp_path / "same").processor
    assert (dict(processor.size), dict(processor.crop_size)) == ({"shortest_edge": 40}, crop_size)
    processor = convert(source, tmp_path / "larger", ConversionOptions(image_size=64)).processor
    assert (dict(processor.size), dict(processor.crop_size)) == ({"shortest_edge": 80}, {"height": 64, "width": 64})


def test_a_family_without_a_processor_gets_its_own(timesformer_folder, vit_folder, tmp_path):
    conversion = convert(timesformer_folder, tmp_path / "timesformer")
    assert tuple(conversion.processor.image_mean) == PixelDefaults.image_mean
    assert conversion.source.preprocessing_origin == "assumed: timesformer"
    conversion = convert(vit_folder, tmp_path / "vit", ConversionOptions(preprocessing="imagenet", num_frames=12))
    assert list(conversion.processor.image_std) == [0.229, 0.224, 0.225]
    assert conversion.processor.num_frames == 12
    assert conversion.processor.do_flip_channel_order is False


@pytest.mark.parametrize("change", [{"image_mean": "grey"}, {"size": {"depth": 3}}, {"resample": "soft"}])
def test_a_bad_processor_is_refused(vit_folder, tmp_path, output, change):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).symlink_to(vit_folder / name)
    (source / "preprocessor_config.json").write_text(json.dumps(change))
    with pytest.raises(ConversionError, match=r"preprocessor_config\.json"):
        convert(source, output)


def test_a_checkpoint_of_bgr_frames_says_so_to_its_processors(vit_folder, tmp_path):
    frames = torch.randint(0, 256, (8, 3, SIDE, SIDE), dtype=torch.uint8)
    pixels = {}
    for bgr in (False, True):
        convert(vit_folder, tmp_path / str(bgr), ConversionOptions(bgr=bgr))
        processor = AutoVideoProcessor.from_pretrained(tmp_path / str(bgr))
        pixels[bgr] = processor(frames, return_tensors="pt")["pixel_values"]
        settings = json.loads((tmp_path / str(bgr) / "preprocessor_config.json").read_text())
        assert settings["do_flip_channel_order"] is bgr
    assert torch.equal(pixels[True], pixels[False].flip(2))


# ---- labels ----

NAMES = ["archery", "air drumming", "zumba, slow"]
LABEL_FILES = {
    "list.json": json.dumps(NAMES),
    "numbers.json": json.dumps({str(i): name for i, name in reversed(list(enumerate(NAMES)))}),
    "names.json": json.dumps({name: i for i, name in enumerate(NAMES)}),
    "names.csv": 'name\narchery\nair drumming\n"zumba, slow"\n'.removeprefix("name\n"),
    "header.csv": 'id,name\n2,"zumba, slow"\n0,archery\n1,air drumming\n',
    "numbers-last.csv": 'archery,0\nair drumming,1\n"zumba, slow",2\n',
    "names.txt": "\ufeffarchery\nair drumming\r\nzumba, slow\n\n",
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_labels_are_read_from_every_kind_of_file(tmp_path, name):
    (tmp_path / name).write_text(LABEL_FILES[name], encoding="utf-8")
    assert read_labels(tmp_path / name) == NAMES


BAD_LABEL_FILES = {
    "twice.txt": ("a\nb\na\n", "got a more than once"),
    "empty.txt": ("", "got none"),
    "gap.txt": ("a\n\nb\n", "expected names, got ''"),
    "gap.json": ('{"0": "a", "2": "b"}', r"expected the numbers 0 to 1, each once, got \[0, 2\]"),
    "words.json": ('{"a": "b"}', "invalid literal"),
    "number.json": ("7", "got a int"),
    "mixed.json": ('["a", 1]', "expected names, got 1"),
    "damaged.json": ("[", "Expecting value"),
    "wide.csv": ("1,2,3\n", "expected one or two columns"),
    "twice.csv": ("0,a\n0,b\n", "expected the numbers 0 to 1"),
    "labels.xml": ("<a/>", "expected labels in a .json, .csv, .txt file"),
}


@pytest.mark.parametrize("name", BAD_LABEL_FILES)
def test_bad_labels_are_refused_with_the_reason(tmp_path, name):
    text, message = BAD_LABEL_FILES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ConversionError, match=message):
        read_labels(tmp_path / name)


def test_labels_name_the_classes_of_the_head(vit_folder, tmp_path, output):
    (tmp_path / "labels.json").write_text(json.dumps([f"name {i}" for i in range(CLASSES)]))
    convert(vit_folder, output, ConversionOptions(labels=tmp_path / "labels.json"))
    config = load(output).config
    assert config.id2label == {i: f"name {i}" for i in range(CLASSES)}
    assert config.label2id["name 2"] == 2


def test_labels_that_are_too_few_are_refused(vit_folder, tmp_path, output):
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(ConversionError, match=r"expected 6 labels .* got 2; --new-head"):
        convert(vit_folder, output, ConversionOptions(labels=tmp_path / "labels.txt"))


# ---- Hub ids ----


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_id_is_downloaded_and_safetensors_are_preferred(vit_folder, tmp_path, output, monkeypatch, weights):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "config.json").symlink_to(vit_folder / "config.json")
    tensors = load_file(vit_folder / "model.safetensors")
    save_file(tensors, cache / weights) if weights.endswith("safetensors") else torch.save(tensors, cache / weights)
    asked = []

    def snapshot_download(repo_id, *, revision, allow_patterns, ignore_patterns):
        asked.append((repo_id, revision, "*.bin" in allow_patterns))
        return str(cache)

    monkeypatch.setattr(checkpoint_files, "snapshot_download", snapshot_download)
    conversion = convert("someone/vit", output, ConversionOptions(revision="v2"))
    calls = [False] if weights.endswith("safetensors") else [False, True]
    assert asked == [("someone/vit", "v2", pickles) for pickles in calls]
    card = (output / "README.md").read_text()
    assert "base_model: someone/vit" in card and "Converted from `someone/vit`" in card
    assert str(tmp_path) not in card
    assert conversion.source.path == cache


@pytest.mark.parametrize("source", ["no/such/file.pth", "nobody/nothing", "what is this?"])
def test_a_source_that_is_not_there_is_refused(output, source):
    with pytest.raises(ConversionError, match="expected a file, a folder or a Hub id"):
        convert(source, output)


def test_a_source_can_be_looked_at_without_converting_it(vit_folder):
    source = read_source(vit_folder)
    assert source.layout.name == "transformers ViT"
    assert source.is_image_model and source.has_head
    assert source.config.hidden_size == WIDTH


# ---- labels as tokens ----

HIERARCHY = {"thing 0": "low", "thing 1": "low", "thing 2": "high", "low": "any", "high": "any"}


@pytest.fixture
def token_files(tmp_path) -> dict:
    """Options with a hierarchy above the labels of the ViT, and embeddings of all of them."""
    (tmp_path / "hierarchy.json").write_text(json.dumps(HIERARCHY))
    save_file({"embeddings": torch.arange(6.0 * (CLASSES + 3)).view(-1, 6)}, tmp_path / "rows.safetensors")
    return {"hierarchy": tmp_path / "hierarchy.json", "label_embeddings": tmp_path / "rows.safetensors"}


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_labels_become_tokens_and_divided_ones_leave_the_features_as_they_are(
    vit_folder, tmp_path, token_files, attention_type
):
    options = ConversionOptions(attention_type=attention_type, num_frames=FRAMES)
    convert(vit_folder, tmp_path / "plain", options)
    tokens = {"label_attention": "divided", "label_integration_layer": 1, **token_files}
    conversion = convert(vit_folder, tmp_path / "tokens", replace(options, **tokens))
    plain, model = load(tmp_path / "plain"), load(tmp_path / "tokens")
    clip = moving_clip()
    features, expected = model.fal(clip), plain.fal(clip)
    assert torch.equal(features.last_hidden_state, expected.last_hidden_state)
    assert torch.equal(features.pooler_output, expected.pooler_output)
    assert torch.equal(model.classifier.weight, plain.classifier.weight)
    assert torch.equal(model.fal.label_embeddings.embeddings.weight, torch.arange(6.0 * (CLASSES + 3)).view(-1, 6))
    assert model.config.label_space.num_levels == 3
    assert conversion.comparison.output == "CLS embedding"
    assert "CLS embedding" in (tmp_path / "tokens" / "README.md").read_text()
    assert "new" in conversion.summary() and "rows.safetensors" in conversion.summary()["new"]


@pytest.mark.parametrize("label_attention", ["label", "unified"])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("kind", ["image", "video", "FAL"])
def test_labels_that_change_the_features_are_compared_before_that(
    vit_folder, timesformer_folder, tmp_path, output, label_attention, layer, kind
):
    tiny_model(grid=(FRAMES, 4, 4), patch_size=PATCH).save_pretrained(tmp_path / "fal")
    source = {"image": vit_folder, "video": timesformer_folder, "FAL": tmp_path / "fal"}[kind]
    options = ConversionOptions(label_attention=label_attention, label_integration_layer=layer)
    conversion = convert(source, output, options)
    model_layers = conversion.config.num_hidden_layers
    assert conversion.comparison.output == "CLS token before the labels"
    left_out = {name for name in conversion.left_out if name.startswith("fal.layers.")}
    expected = range(layer, model_layers) if label_attention == "label" else ()
    assert {int(name.split(".")[2]) for name in left_out} == set(expected)
    model = load(output)
    assert model.config.label_attention == label_attention
    assert torch.isfinite(model(moving_clip()).label_logits).all()


def test_labels_without_gates_change_the_features_at_once(tmp_path, output):
    tiny_model(grid=(FRAMES, 4, 4), patch_size=PATCH, label_gates=False).save_pretrained(tmp_path / "fal")
    options = ConversionOptions(label_attention="divided", label_integration_layer=1)
    conversion = convert(tmp_path / "fal", output, options)
    assert conversion.comparison.output == "CLS token before the labels" and not conversion.config.label_gates


@pytest.mark.parametrize(
    ("label_attention", "label_gates"), [("label", True), ("unified", True), ("divided", True), ("divided", False)]
)
def test_a_source_with_labels_as_tokens_keeps_them_at_another_size(tmp_path, output, label_attention, label_gates):
    fields = {"id2label": dict(enumerate("abcde")), "label_hierarchy": {"a": "vowel", "e": "vowel"}}
    fields |= {"label_attention": label_attention, "label_integration_layer": 1, "label_embedding_size": 6}
    fields |= {"label_gates": label_gates}
    model = tiny_model(grid=(FRAMES, 4, 4), patch_size=PATCH, **fields)
    model.save_pretrained(tmp_path / "fal")
    conversion = convert(tmp_path / "fal", output, ConversionOptions(num_frames=2))
    assert conversion.comparison.output == "logits" and not conversion.new and not conversion.left_out
    converted = load(output)
    assert converted.config.label_hierarchy == fields["label_hierarchy"]
    clip = moving_clip(frames=2)
    torch.testing.assert_close(converted(clip).label_logits, model(clip).label_logits, atol=1e-5, rtol=1e-5)
    for options in ({"label_attention": "none"}, {"new_head": True}, {"label_integration_layer": 0}):
        with pytest.raises(
            ConversionError, match=f"expected its own labels.*without {next(iter(options))}; fal train"
        ):
            convert(tmp_path / "fal", tmp_path / "other", ConversionOptions(**options))
    model.fal.save_pretrained(tmp_path / "base")
    headless = convert(tmp_path / "base", tmp_path / "with_head")
    assert headless.config.label_space == model.config.label_space and "classifier.weight" in headless.new


def test_label_options_that_do_not_fit_the_source_are_refused(vit_folder, tmp_path, output, token_files):
    layers = ConversionOptions(label_attention="divided")
    with pytest.raises(ConversionError, match=r"expected a label_integration_layer in \[0, 1\]"):
        convert(vit_folder, output, layers)
    save_file({"embeddings": torch.zeros(2, 6)}, tmp_path / "rows.safetensors")
    tokens = {"label_attention": "divided", "label_integration_layer": 1}
    with pytest.raises(ConversionError, match=rf"rows.safetensors: expected a row for each of {CLASSES + 3} labels"):
        convert(vit_folder, output, ConversionOptions(**tokens, **token_files))
    (tmp_path / "hierarchy.json").write_text('{"zebra": "animal"}')
    with pytest.raises(ConversionError, match=r"hierarchy\.json: zebra: expected labels of the model"):
        convert(vit_folder, output, ConversionOptions(hierarchy=token_files["hierarchy"]))
    assert not output.exists()


def test_the_card_of_labels_as_tokens_says_that_they_are_untrained(vit_folder, output, token_files):
    convert(vit_folder, output, ConversionOptions(label_attention="divided", label_integration_layer=1, **token_files))
    card = (output / "README.md").read_text()
    assert f"{CLASSES} labels and 3 above them, levels: 3; tokens (`divided`) from block 2 on" in card
    assert "The weights of its labels as tokens are untrained" in card
