"""The model that a run starts from: labels, sizes, conversion, what is frozen."""

import json
from pathlib import Path

import pytest
import torch
from tiny_fal import tiny_config, tiny_model

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.training.data import SINGLE_LABEL
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
        build_model(ModelArguments(), tmp_path, labels=["x"], problem_type=SINGLE_LABEL)


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


def test_the_processor_takes_another_distance_of_frames(tiny_checkpoint):
    arguments = ModelArguments(frame_interval_seconds=0.5, num_frames=6)
    processor = build_processor(arguments, tiny_checkpoint, None)
    assert (processor.num_frames, processor.frame_interval_seconds) == (6, 0.5)
    spread = build_processor(ModelArguments(spread_frames=True), processor_folder(processor, tiny_checkpoint), None)
    assert spread.frame_interval_seconds is None


def processor_folder(processor: FALVideoProcessor, folder: Path) -> Path:
    target = folder / "timed"
    processor.save_pretrained(target)
    return target


def test_frozen_parts_have_no_gradient():
    head = choose_trained_parameters(tiny_model(), ModelArguments(freeze_backbone=True))
    assert {name for name, one in head.named_parameters() if one.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }
    blocks = choose_trained_parameters(tiny_model(), ModelArguments(freeze_layers=1))
    frozen = {name for name, one in blocks.named_parameters() if not one.requires_grad}
    assert all(name.startswith(("fal.embeddings.", "fal.layers.0.")) for name in frozen)
    assert "fal.embeddings.cls_token" in frozen and "fal.layers.0.mlp.fc1.weight" in frozen


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
