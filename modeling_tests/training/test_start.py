"""The model that a run starts from: labels, sizes, conversion, what is frozen."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import PROJECTION_DIM, write_open_checkpoint
from tiny_fal import random_clip, tiny_config, tiny_model

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from fal_hf import FALVideoClassifierForVideoClassification
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL
from fal_hf.training.start import (
    ModelArguments,
    build_model,
    build_processor,
    choose_trained_parameters,
    find_source,
)


def test_the_labels_of_a_checkpoint_keep_their_order_and_head(tiny_checkpoint):
    options = {"source": tiny_checkpoint, "problem_type": SINGLE_LABEL}
    start = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    kept = build_model(ModelArguments(drop_path_rate=0.2), labels=list("edcba"), **options)
    assert kept.config.id2label == start.config.id2label and kept.config.drop_path_rate == 0.2
    assert torch.equal(kept.classifier.weight, start.classifier.weight)
    new = build_model(ModelArguments(), labels=["x", "y"], **options)
    assert new.config.id2label == {0: "x", 1: "y"} and new.classifier.weight.shape[0] == 2
    assert torch.equal(new.fal.layernorm.weight, start.fal.layernorm.weight)


@pytest.mark.parametrize("labels", ["edcba", "vwxyz"])
def test_training_starts_without_the_calibration_of_other_weights(tmp_path, labels, caplog):
    names = {"id2label": dict(enumerate("abcde")), "label2id": {name: i for i, name in enumerate("abcde")}}
    for temperature, folder in ((1.0, tmp_path / "plain"), (1.7, tmp_path / "calibrated")):
        tiny_model(temperature=temperature, **names).save_pretrained(folder)
        caplog.clear()
        model = build_model(ModelArguments(), folder, labels=list(labels), problem_type=SINGLE_LABEL)
        assert model.config.temperature == 1
        said = [record.getMessage() for record in caplog.records if "temperature" in record.getMessage()]
        assert len(said) == (temperature != 1) and all("1.7, of the checkpoint's calibration" in line for line in said)


@pytest.mark.parametrize("fields", [{}, {"classifier_hidden_size": 8}], ids=["linear", "mlp"])
def test_as_many_other_labels_get_a_head_of_their_own(tmp_path, fields):
    start = tiny_model(**fields)
    start.save_pretrained(tmp_path)
    new = build_model(ModelArguments(), tmp_path, labels=list("vwxyz"), problem_type=SINGLE_LABEL)
    heads = [getattr(model.classifier, "out_proj", model.classifier) for model in (start, new)]
    assert not torch.isclose(heads[0].weight, heads[1].weight).any() and not heads[1].bias.any()
    assert torch.equal(new.fal.layernorm.weight, start.fal.layernorm.weight)


@pytest.mark.parametrize("image_size", [16, [16, 24]])
def test_a_folder_with_a_configuration_alone_gets_a_processor_of_its_sizes(tmp_path, image_size):
    tiny_config(image_size=image_size, num_frames=6).save_pretrained(tmp_path)
    arguments = ModelArguments(config_name=str(tmp_path))
    model = build_model(arguments, tmp_path, labels=["a", "b"], problem_type=SINGLE_LABEL)
    processor = build_processor(arguments, tmp_path, model.config)
    clip = torch.zeros(10, 3, 40, 60, dtype=torch.uint8)
    inputs = processor(clip, return_tensors="pt")
    assert inputs["pixel_values"].shape[1:] == (6, 3, *((16, 16) if image_size == 16 else (16, 24)))
    assert model(**inputs).logits.shape == (1, 2)


def test_weights_that_do_not_fit_their_configuration_are_refused(tiny_checkpoint, tmp_path):
    model = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(ValueError, match=r"mlp\.fc1\.bias is missing or differs"):
        build_model(ModelArguments(), tmp_path, labels=["x", "y"], problem_type=SINGLE_LABEL)


def test_a_model_from_nothing_has_the_sizes_that_are_asked_for():
    arguments = ModelArguments(
        config_name="fal-small",
        config_overrides="hidden_size=32,num_attention_heads=2,num_hidden_layers=1,attention_type=axial",
        num_frames=4,
        image_size=32,
    )
    model = build_model(arguments, "fal-small", labels=["x", "y"], problem_type=SINGLE_LABEL)
    processor = build_processor(arguments, "fal-small", model.config)
    assert model.config.attention_type == "axial" and model.config.id2label == {0: "x", 1: "y"}
    assert model.config.grid_size == (4, 2, 2)
    assert (processor.num_frames, processor.crop_size.height) == (4, 32)


def test_the_processor_takes_another_distance_of_frames(tiny_checkpoint, tmp_path):
    arguments = ModelArguments(frame_interval_seconds=0.5, num_frames=6)
    processor = build_processor(arguments, tiny_checkpoint, None)
    assert (processor.num_frames, processor.frame_interval_seconds) == (6, 0.5)
    processor.save_pretrained(tmp_path)
    assert build_processor(ModelArguments(spread_frames=True), tmp_path, None).frame_interval_seconds is None


def test_frozen_parts_have_no_gradient():
    for kept in ("backbone", "features"):
        head = choose_trained_parameters(tiny_model(), ModelArguments(freeze=kept))
        assert {name for name, one in head.named_parameters() if one.requires_grad} == {
            "classifier.weight",
            "classifier.bias",
        }
        fields = {"label_attention": "divided", "label_integration_layer": 1}
        tokens = choose_trained_parameters(tiny_model(**fields), ModelArguments(freeze=kept))
        trained = {name for name, one in tokens.named_parameters() if one.requires_grad}
        assert trained == {name for name, _ in tokens.named_parameters() if "label_" in name or "classifier" in name}
    blocks = choose_trained_parameters(tiny_model(), ModelArguments(freeze="1"))
    frozen = {name for name, one in blocks.named_parameters() if not one.requires_grad}
    assert all(name.startswith(("fal.embeddings.", "fal.layers.0.")) for name in frozen)
    assert "fal.embeddings.cls_token" in frozen and "fal.layers.0.mlp.fc1.weight" in frozen
    embeddings = choose_trained_parameters(tiny_model(), ModelArguments(freeze=0))
    frozen = {name for name, one in embeddings.named_parameters() if not one.requires_grad}
    assert frozen == {name for name, _ in embeddings.named_parameters() if name.startswith("fal.embeddings.")}


def test_an_image_vit_is_converted_first(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vit = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8))
    vit.save_pretrained(tmp_path / "vit")
    arguments = ModelArguments(model_name_or_path=str(tmp_path / "vit"), num_frames=4)
    source = find_source(arguments, tmp_path / "run")
    model = build_model(arguments, source, labels=["x", "y", "z"], problem_type=SINGLE_LABEL)
    assert model.config.grid_size == (4, 2, 2) and model.config.attention_type == "divided_space_time"
    assert model.fal.embeddings.time_embeddings.abs().sum() > 0
    projections = [
        weight
        for name, weight in vit.state_dict().items()
        if name.endswith(("mlp.fc1.weight", "intermediate.dense.weight"))
    ]
    assert torch.equal(model.fal.layers[0].mlp.fc1.weight, projections[0])


def test_weights_get_the_size_that_is_asked_for_before_training(tiny_checkpoint, tmp_path):
    arguments = ModelArguments(model_name_or_path=str(tiny_checkpoint), num_frames=6, image_size=24)
    for _ in range(2):  # an earlier start is replaced
        source = find_source(arguments, tmp_path)
    model = build_model(arguments, source, labels=list("abcde"), problem_type=SINGLE_LABEL)
    processor = build_processor(arguments, source, model.config)
    assert model.config.grid_size == (6, 6, 6) and model.fal.embeddings.time_embeddings.shape[1] == 6
    assert (processor.num_frames, processor.crop_size.height) == (6, 24)
    start = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    assert torch.equal(model.classifier.weight, start.classifier.weight)
    assert find_source(ModelArguments(model_name_or_path=str(tiny_checkpoint)), tmp_path) == str(tiny_checkpoint)


def test_patches_of_a_checkpoint_adapt_and_carry_over(tiny_checkpoint, tmp_path):
    options = {"labels": list("abcde"), "problem_type": SINGLE_LABEL}
    start = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    model = build_model(ModelArguments(adaptive_patches=0.6), tiny_checkpoint, **options)
    assert (model.config.patch_layout, model.config.patch_share) == ("adaptive", 0.6)
    assert not model.fal.embeddings.cell_projection.weight.any()
    assert torch.equal(model.classifier.weight, start.classifier.weight)
    model.fal.embeddings.cell_projection.weight.data.fill_(0.5)
    model.save_pretrained(tmp_path)
    kept = build_model(ModelArguments(), tmp_path, **options)
    assert kept.config.patch_share == 0.6 and (kept.fal.embeddings.cell_projection.weight == 0.5).all()
    other = build_model(ModelArguments(adaptive_patches=0.3), tmp_path, **options)
    assert other.config.patch_share == 0.3 and (other.fal.embeddings.cell_projection.weight == 0.5).all()


@pytest.mark.parametrize("patches", [{"patch_share": 0.6}, {"patch_threshold": 0.5}], ids=str)
def test_patches_that_adapt_stay_at_another_size(tiny_checkpoint, tmp_path, patches):
    start = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    model = tiny_model(patch_layout="adaptive", id2label=start.config.id2label, **patches)
    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    arguments = ModelArguments(model_name_or_path=str(tmp_path / "model"), image_size=24)
    source = find_source(arguments, tmp_path / "run")
    larger = build_model(arguments, source, labels=list("abcde"), problem_type=SINGLE_LABEL)
    assert larger.config.grid_size == (4, 6, 6) and larger.config.adaptive_patches == model.config.adaptive_patches
    weights = [each.fal.embeddings.cell_projection.weight for each in (larger, model)]
    assert torch.equal(*weights)


def test_the_linear_of_cells_that_a_checkpoint_should_have_is_expected(tiny_checkpoint, tmp_path):
    model = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    model.config.patch_layout = "adaptive"
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"cell_projection\.bias is missing or differs"):
        build_model(ModelArguments(), tmp_path, labels=list("abcde"), problem_type=SINGLE_LABEL)


# ---- labels as tokens ----

HIERARCHY = {"a": "vowel", "e": "vowel", "b": "stop", "d": "stop"}
NAMES = ("a", "b", "c", "d", "e", "vowel", "stop")


@pytest.fixture(scope="module")
def with_tokens(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny checkpoint with a hierarchy and tokens for its labels, as a run makes and saves it."""
    folder = tmp_path_factory.mktemp("with_tokens")
    (folder / "hierarchy.json").write_text(json.dumps(HIERARCHY))
    save_file({"embeddings": torch.arange(42.0).view(7, 6)}, folder / "embeddings.safetensors")
    arguments = ModelArguments(
        label_attention="divided",
        label_integration_layer=1,
        hierarchy=str(folder / "hierarchy.json"),
        label_embeddings=str(folder / "embeddings.safetensors"),
    )
    model = build_model(arguments, tiny_checkpoint, labels=list("abcde"), problem_type=SINGLE_LABEL)
    model.save_pretrained(folder)
    return folder


def test_labels_become_tokens_of_a_checkpoint(tiny_checkpoint, with_tokens):
    model = FALVideoClassifierForVideoClassification.from_pretrained(with_tokens)
    assert model.config.label_space.names == NAMES and model.config.label_embedding_size == 6
    assert torch.equal(model.fal.label_embeddings.embeddings.weight, torch.arange(42.0).view(7, 6))
    start = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint).state_dict()
    weights = model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in start.items())


def test_labels_become_tokens_of_a_model_from_nothing(with_tokens):
    arguments = ModelArguments(
        config_name="fal-small",
        config_overrides="hidden_size=32,num_attention_heads=2,num_hidden_layers=2",
        label_attention="label",
        label_integration_layer=1,
        hierarchy=str(with_tokens / "hierarchy.json"),
        label_embeddings=str(with_tokens / "embeddings.safetensors"),
    )
    model = build_model(arguments, "fal-small", labels=list("abcde"), problem_type=SINGLE_LABEL)
    assert model.config.label_space.names == NAMES and len(model.fal.label_layers) == 1
    assert torch.equal(model.fal.label_embeddings.embeddings.weight, torch.arange(42.0).view(7, 6))


def test_the_tokens_of_a_checkpoint_carry_over_to_the_same_labels_alone(with_tokens, tmp_path):
    options = {"source": with_tokens, "problem_type": SINGLE_LABEL}
    embeddings = torch.arange(42.0).view(7, 6)
    same = build_model(ModelArguments(), labels=list("edcba"), **options)
    assert same.config.label_hierarchy == HIERARCHY
    assert torch.equal(same.fal.label_embeddings.embeddings.weight, embeddings)
    for labels in (list("vwxyz"), list("xyz")):
        other = build_model(ModelArguments(), labels=labels, **options)
        assert other.config.label_hierarchy is None and other.config.label_space.names == tuple(labels)
        assert other.fal.label_embeddings.embeddings.weight.abs().max() < 0.2
    (tmp_path / "named.json").write_text(json.dumps({"v": "front", "w": "front", "x": "back"}))
    named = build_model(ModelArguments(hierarchy=str(tmp_path / "named.json")), labels=list("vwxyz"), **options)
    assert named.config.label_space.names == (*"vwxyz", "front", "back")
    assert named.fal.label_embeddings.embeddings.weight.abs().max() < 0.2
    layer = same.fal.label_layers[0].state_dict()
    assert all(torch.equal(layer[name], weight) for name, weight in named.fal.label_layers[0].state_dict().items())


def test_label_tokens_without_gates_are_made_and_carry_over(tmp_path):
    arguments = ModelArguments(
        config_name="fal-small",
        config_overrides="hidden_size=32,num_attention_heads=2,num_hidden_layers=2,label_gates=false",
        label_attention="divided",
        label_integration_layer=1,
    )
    model = build_model(arguments, "fal-small", labels=list("abc"), problem_type=SINGLE_LABEL)
    assert not [name for name, _ in model.named_parameters() if "gate" in name]
    model.save_pretrained(tmp_path)
    again = build_model(ModelArguments(), tmp_path, labels=list("abc"), problem_type=SINGLE_LABEL)
    weights = model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in again.state_dict().items())


def test_label_weights_that_a_checkpoint_should_have_are_expected(with_tokens, tmp_path):
    shutil.copytree(with_tokens, tmp_path / "model")
    weights = load_file(with_tokens / "model.safetensors")
    del weights["label_head.scorer.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"label_head\.scorer\.weight is missing or differs"):
        build_model(ModelArguments(), tmp_path / "model", labels=list("abcde"), problem_type=SINGLE_LABEL)


def test_a_checkpoint_of_few_blocks_needs_the_layer_from_which_labels_are_tokens(tiny_checkpoint):
    with pytest.raises(ValueError, match=r"^expected a label_integration_layer in \[0, 1\] .*got 8$"):
        build_model(
            ModelArguments(label_attention="label"), tiny_checkpoint, labels=list("ab"), problem_type=SINGLE_LABEL
        )


def test_lora_trains_labels_as_tokens_as_a_whole(with_tokens):
    pytest.importorskip("peft")
    model = build_model(ModelArguments(), with_tokens, labels=list("abcde"), problem_type=SINGLE_LABEL)
    expected = {name for name, _ in model.named_parameters() if "label_" in name}
    adapted = choose_trained_parameters(model, ModelArguments(lora_rank=2))
    adapted(pixel_values=random_clip(model.config), labels=torch.tensor([0, 1])).loss.backward()
    trained = {
        name.replace(".modules_to_save.default", "") for name, one in adapted.named_parameters() if one.requires_grad
    }
    assert expected <= {name.removeprefix("base_model.model.") for name in trained}
    assert not [name for name in trained if "label_" in name and "lora" in name]
    assert any("fal.layers.1.steps.main.attention.qkv.lora_A" in name for name in trained)


def test_labels_as_tokens_stay_at_another_number_of_frames(with_tokens, tiny_checkpoint, tmp_path):
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (tiny_checkpoint / name).exists():
            shutil.copy(tiny_checkpoint / name, with_tokens)
    arguments = ModelArguments(model_name_or_path=str(with_tokens), num_frames=6)
    source = find_source(arguments, tmp_path)
    model = build_model(arguments, source, labels=list("abcde"), problem_type=SINGLE_LABEL)
    assert model.config.num_frames == 6 and model.config.label_hierarchy == HIERARCHY
    before, after = load_file(with_tokens / "model.safetensors"), model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items() if "label_" in name)


# ---- labels that clips are compared with ----


@pytest.fixture(scope="module")
def open_checkpoint(tmp_path_factory) -> Path:
    """A tiny model that takes any labels, given some, with its text tower."""
    return write_open_checkpoint(tmp_path_factory.mktemp("open"), ["a", "b"])


def table(model: FALVideoClassifierForVideoClassification) -> torch.Tensor:
    return model.fal.label_embeddings.embeddings.weight


def test_a_model_that_takes_any_labels_gets_those_of_the_clips(open_checkpoint):
    start = FALVideoClassifierForVideoClassification.from_pretrained(open_checkpoint)
    options = {"source": open_checkpoint, "problem_type": SINGLE_LABEL}
    model = build_model(ModelArguments(), labels=["runs", "sits", "swims"], **options)
    assert model.config.id2label == {0: "runs", 1: "sits", 2: "swims"}
    assert torch.equal(table(model), start.text_encoder([f"a video of {name}" for name in ("runs", "sits", "swims")]))
    assert torch.equal(model.classifier.projection.weight, start.classifier.projection.weight)
    kept = build_model(ModelArguments(), labels=["b", "a"], **options)
    assert kept.config.id2label == {0: "a", 1: "b"} and torch.equal(table(kept), table(start))
    named = build_model(ModelArguments(label_prompt="{}!"), labels=["a", "b"], **options)
    assert named.config.label_prompt == "{}!" and torch.equal(table(named), start.text_encoder(["a!", "b!"]))


def test_labels_get_their_embeddings_from_a_file(open_checkpoint, tmp_path):
    embeddings = torch.arange(3.0 * PROJECTION_DIM).view(3, PROJECTION_DIM)
    save_file({"embeddings": embeddings}, tmp_path / "rows.safetensors")
    save_file({"embeddings": embeddings[:, :5].contiguous()}, tmp_path / "narrow.safetensors")
    options = {"labels": ["x", "y", "z"], "problem_type": SINGLE_LABEL}
    arguments = ModelArguments(label_embeddings=str(tmp_path / "rows.safetensors"))
    assert torch.equal(table(build_model(arguments, open_checkpoint, **options)), embeddings)
    shutil.copytree(open_checkpoint, tmp_path / "closed")
    shutil.rmtree(tmp_path / "closed" / "text")
    assert torch.equal(table(build_model(arguments, tmp_path / "closed", **options)), embeddings)
    with pytest.raises(ValueError, match=r"^x, y, z: expected --label_embeddings, or a text tower beside"):
        build_model(ModelArguments(), tmp_path / "closed", **options)
    narrow = ModelArguments(label_embeddings=str(tmp_path / "narrow.safetensors"))
    with pytest.raises(ValueError, match=r"narrow\.safetensors: expected embeddings of 12 numbers, .* got 5"):
        build_model(narrow, open_checkpoint, **options)


def test_a_model_from_nothing_can_take_any_labels(tmp_path):
    save_file({"embeddings": torch.eye(2, 7)}, tmp_path / "rows.safetensors")
    sizes = "hidden_size=32,num_attention_heads=2,num_hidden_layers=1,classifier_type=similarity"
    options = {"source": "fal-small", "labels": ["x", "y"], "problem_type": SINGLE_LABEL}
    arguments = {"config_name": "fal-small", "config_overrides": sizes}
    model = build_model(
        ModelArguments(**arguments, label_embeddings=str(tmp_path / "rows.safetensors"), label_prompt="{} now"),
        **options,
    )
    assert torch.equal(table(model), torch.eye(2, 7)) and model.classifier.projection.weight.shape == (7, 32)
    assert model.config.label_prompt == "{} now"
    with pytest.raises(ValueError, match=r"^x, y: expected --label_embeddings"):
        build_model(ModelArguments(**arguments), **options)


def test_labels_as_tokens_join_a_model_that_takes_any_labels(open_checkpoint, tmp_path):
    (tmp_path / "hierarchy.json").write_text(json.dumps({"x": "letter", "y": "letter"}))
    arguments = ModelArguments(
        label_attention="divided", label_integration_layer=1, hierarchy=str(tmp_path / "hierarchy.json")
    )
    model = build_model(arguments, open_checkpoint, labels=["x", "y"], problem_type=SINGLE_LABEL)
    assert model.config.label_space.names == ("x", "y", "letter")
    assert torch.equal(table(model), model.text_encoder([f"a video of {name}" for name in ("x", "y", "letter")]))
    assert model(random_clip(model.config)).label_logits.shape == (2, 3)


def test_a_head_of_similarity_is_no_weight_that_may_be_missing(open_checkpoint, tmp_path):
    shutil.copytree(open_checkpoint, tmp_path / "model")
    weights = load_file(open_checkpoint / "model.safetensors")
    del weights["classifier.projection.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"classifier\.projection\.weight is missing or differs"):
        build_model(ModelArguments(), tmp_path / "model", labels=["x", "y"], problem_type=SINGLE_LABEL)


def test_a_prompt_is_for_a_model_that_takes_any_labels(tiny_checkpoint):
    with pytest.raises(ValueError, match=r"^--label_prompt: expected classifier_type similarity"):
        build_model(
            ModelArguments(label_prompt="{}!"), tiny_checkpoint, labels=list("abcde"), problem_type=SINGLE_LABEL
        )


def test_several_labels_train_the_bias(open_checkpoint):
    options = {"source": open_checkpoint, "labels": ["x", "y", "z"]}
    model = build_model(ModelArguments(), **options, problem_type=MULTI_LABEL)
    choose_trained_parameters(model, ModelArguments())
    model(random_clip(model.config), labels=torch.tensor([[1.0, 0, 1], [0, 0, 0]])).loss.backward()
    assert model.classifier.logit_bias.grad.abs() > 0 and model.classifier.logit_scale.grad.abs() > 0
    single = build_model(ModelArguments(), **options, problem_type=SINGLE_LABEL)
    choose_trained_parameters(single, ModelArguments())
    kept = [name for name, parameter in single.named_parameters() if not parameter.requires_grad]
    assert kept == ["classifier.logit_bias"]  # softmax does not see it


def test_lora_trains_a_head_of_similarity_as_a_whole(open_checkpoint):
    pytest.importorskip("peft")
    model = build_model(ModelArguments(), open_checkpoint, labels=["x", "y", "z"], problem_type=SINGLE_LABEL)
    adapted = choose_trained_parameters(model, ModelArguments(lora_rank=2))
    adapted(pixel_values=random_clip(model.config), labels=torch.tensor([0, 1])).loss.backward()
    trained = {name for name, one in adapted.named_parameters() if one.requires_grad}
    heads = {name.rpartition("default.")[2] for name in trained if "lora" not in name}
    assert heads == {"projection.weight", "logit_scale"} and any("lora_A" in name for name in trained)
