"""The configuration: presets, what it refuses, and how it is stored and read."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassError

from fal_hf import FALConfig
from fal_hf.model.attention_schemes import ATTENTION_TYPES
from fal_hf.model.configuration_fal import PRESETS


def test_the_defaults_are_the_base_model_of_the_paper():
    config = FALConfig()
    assert (config.num_frames, config.image_size, config.patch_size) == (8, 224, 16)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 12)
    assert config.attention_type == "divided_space_time"
    assert config.attention_order == "time_space"
    assert config.cls_in_temporal_attention is True
    assert config.layer_norm_eps == 1e-6
    assert config.model_type == "fal"


@pytest.mark.parametrize(
    ("name", "clip", "sizes"),
    [
        ("fal", (8, 224), (768, 12, 12, 3072)),
        ("fal-hr", (16, 448), (768, 12, 12, 3072)),
        ("fal-l", (96, 224), (768, 12, 12, 3072)),
        ("fal-small", (8, 224), (384, 12, 6, 1536)),
        ("fal-base", (8, 224), (768, 12, 12, 3072)),
        ("fal-large", (8, 224), (1024, 24, 16, 4096)),
    ],
)
def test_presets_are_the_variants_of_the_paper(name, clip, sizes):
    config = FALConfig.from_preset(name)
    assert (config.num_frames, config.image_size) == clip
    widths = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    assert widths == sizes
    assert FALConfig.from_preset(name, patch_size=32).patch_size == 32


def test_a_preset_takes_overrides_and_stays_what_it_was():
    config = FALConfig.from_preset("fal-hr", num_labels=7, image_size=224)
    assert (config.num_labels, config.image_size, config.num_frames) == (7, 224, 16)
    assert FALConfig.from_preset("fal-hr").image_size == 448
    assert PRESETS["fal-hr"] == {"num_frames": 16, "image_size": 448}


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of the presets fal, fal-hr, .*got 'fal-huge'"):
        FALConfig.from_preset("fal-huge")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_type": "divided"}, r"attention_type to be one of divided_space_time, .*axial; got 'divided'"),
        ({"attention_order": "both"}, r"attention_order to be one of time_space, space_time, parallel; got 'both'"),
        ({"position_embedding_type": "rope"}, r"position_embedding_type to be one of .*; got 'rope'"),
        ({"attention_type": "axial", "attention_order": "parallel"}, r"choice of divided_space_time attention only"),
        ({"hidden_size": 100}, r"num_attention_heads to divide hidden_size, got 12 heads for a hidden size of 100"),
        ({"image_size": 220}, r"image_size .* patch_size=16 divides, got 220"),
        ({"image_size": [224, 220]}, r"patch_size=16 divides, got \[224, 220\]"),
        ({"image_size": [224, 224, 224]}, r"one side or \[height, width\]"),
        ({"image_size": [224]}, r"one side or \[height, width\] .*, got \[224\]"),
        ({"image_size": []}, r"one side or \[height, width\] .*, got \[\]"),
        ({"intermediate_size": 0}, r"expected intermediate_size >= 1, got 0"),
        ({"classifier_hidden_size": 0}, r"expected classifier_hidden_size >= 1 or None, got 0"),
        ({"norm_layout": "bert"}, r"expected norm_layout to be one of vit, clip; got 'bert'"),
        ({"classifier_type": "cosine"}, r"expected classifier_type to be one of linear, similarity; got 'cosine'"),
        ({"classifier_type": "similarity", "classifier_hidden_size": 8}, r"a choice of a linear head only"),
        ({"label_prompt": "a video"}, r"expected a prompt with \{\} in the label's place"),
        ({"label_attention": "divided", "num_labels": 20_001}, r"at most 20,000 labels as tokens"),
        ({"layer_norm_eps": -1.0}, r"expected a finite layer_norm_eps of at least 1.18e-38, got -1.0"),
        ({"layer_norm_eps": float("nan")}, r"expected a finite layer_norm_eps of at least 1.18e-38, got nan"),
        ({"layer_norm_eps": 1e-46}, r"expected a finite layer_norm_eps of at least 1.18e-38, got 1e-46"),
        *(
            ({"temperature": value}, rf"expected a finite temperature above 0, got {value}")
            for value in (0, -1.0, float("inf"), float("nan"))
        ),
        ({"initializer_range": 0.0}, r"expected a finite initializer_range above 0, got 0.0"),
        ({"initializer_range": -0.02}, r"expected a finite initializer_range above 0, got -0.02"),
        ({"initializer_range": float("nan")}, r"expected a finite initializer_range above 0, got nan"),
        ({"hidden_act": "gleu"}, r"expected hidden_act to be one of gelu, .*; got 'gleu'"),
        ({"hidden_dropout_prob": 1.1}, r"expected 0 <= hidden_dropout_prob <= 1, got 1.1"),
        ({"hidden_dropout_prob": float("nan")}, r"expected 0 <= hidden_dropout_prob <= 1, got nan"),
        ({"attention_probs_dropout_prob": -1}, r"expected 0 <= attention_probs_dropout_prob <= 1, got -1"),
        ({"num_labels": 0}, r"expected num_labels >= 1, got 0"),
        ({"num_frames": 0}, r"expected num_frames >= 1, got 0"),
        ({"num_hidden_layers": 0}, r"expected num_hidden_layers >= 1, got 0"),
        ({"num_hidden_layers": 2**63}, r"expected num_hidden_layers <= 1000, got 9223372036854775808"),
        ({"drop_path_rate": 1.0}, r"0 <= drop_path_rate < 1, got 1.0"),
        ({"drop_path_rate": -0.1}, r"0 <= drop_path_rate < 1, got -0.1"),
    ],
)
def test_contradictory_values_are_refused_with_what_was_expected_and_what_came(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        FALConfig(**fields)


@pytest.mark.parametrize("fields", [{"hidden_size": "768"}, {"qkv_bias": 1.5}, {"num_frames": 8.0}])
def test_values_of_the_wrong_type_are_refused(fields):
    with pytest.raises(StrictDataclassError, match=next(iter(fields))):
        FALConfig(**fields)


@pytest.mark.parametrize("rate", [0, 0.1, 0.5])
def test_stochastic_depth_and_dropout_take_integers_and_floats(rate):
    config = FALConfig(drop_path_rate=rate, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
    assert config.drop_path_rate == config.hidden_dropout_prob == config.attention_probs_dropout_prob == rate


@pytest.mark.parametrize(
    ("image_size", "grid"), [(224, (8, 14, 14)), ([96, 160], (8, 6, 10)), ((96, 160), (8, 6, 10))]
)
def test_the_grid_counts_frames_rows_and_columns(image_size, grid):
    assert FALConfig(image_size=image_size).grid_size == grid


def test_storing_and_reading_keeps_every_field(tmp_path):
    config = FALConfig(
        attention_type="axial",
        image_size=[96, 160],
        num_frames=5,
        classifier_hidden_size=64,
        drop_path_rate=0.2,
        temperature=1.7,
        num_labels=3,
        cls_in_temporal_attention=True,
    )
    config.save_pretrained(tmp_path)
    read = FALConfig.from_pretrained(tmp_path)
    assert read.to_dict() | {"transformers_version": None} == config.to_dict() | {"transformers_version": None}
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "fal"


@pytest.mark.parametrize("cls_in_time", [True, False])
def test_the_flag_of_the_temporal_cls_key_is_stored_either_way(tmp_path, cls_in_time):
    FALConfig(cls_in_temporal_attention=cls_in_time).save_pretrained(tmp_path)
    assert FALConfig.from_pretrained(tmp_path).cls_in_temporal_attention is cls_in_time


@pytest.mark.parametrize("model_type", ["fal", "timesformer"])
def test_a_stored_configuration_without_the_flag_has_no_cls_key_in_time(tmp_path, model_type):
    fields = {"model_type": model_type, "attention_type": "divided_space_time", "num_frames": 4, "image_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = FALConfig.from_pretrained(tmp_path)
    assert config.model_type == "fal"
    assert config.cls_in_temporal_attention is False
    assert (config.num_frames, config.image_size) == (4, 64)


def test_the_flag_can_be_set_while_reading(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "timesformer"}))
    assert FALConfig.from_pretrained(tmp_path, cls_in_temporal_attention=True).cls_in_temporal_attention is True


def test_a_stored_configuration_with_bad_values_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "fal", "attention_type": "windowed"}))
    with pytest.raises(StrictDataclassError, match="got 'windowed'"):
        FALConfig.from_pretrained(tmp_path)


def test_the_schemes_are_the_five_of_the_paper():
    schemes = {"space_only", "joint_space_time", "divided_space_time", "sparse_local_global", "axial"}
    assert set(ATTENTION_TYPES) == schemes
