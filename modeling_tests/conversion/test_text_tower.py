"""Text towers and their tokenizers: what is refused, by the name of what is wrong, before anything is made of it."""

import json
import re
import shutil
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import PROJECTION_DIM, SIDE, make_tokenizer, write_open_checkpoint, write_tiny_clip
from transformers import (
    AltCLIPModel,
    ChineseCLIPModel,
    CLIPForImageClassification,
    CLIPModel,
    MetaClip2Model,
    SiglipConfig,
    SiglipModel,
    XCLIPModel,
)

from fal_hf.conversion import ConversionError, ConversionOptions, convert
from fal_hf.conversion.checkpoint_layouts import read_source
from fal_hf.conversion.text_tower import read_text_tower

# Far more than any machine has; each number of a tensor takes bytes.
GIANT = 10**12


@pytest.fixture
def folder(clip_folder, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(clip_folder, tmp_path / "clip")


@pytest.fixture
def refuse(tmp_path, output):
    """Converts what is to be refused, in one line; nothing is written."""
    (tmp_path / "labels.txt").write_text("a\nb")

    def run(source: Path, message: str, **options) -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ConversionError) as error:
            convert(source, output, ConversionOptions(**{"labels": tmp_path / "labels.txt", **options}))
        text = str(error.value)
        assert re.search(message, text) and "\n" not in text, text
        assert sorted(tmp_path.rglob("*")) == before

    return run


def change_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replaces tensors of a folder, or takes out those whose value is None; `__` stands for a dot."""
    tensors = load_file(folder / "model.safetensors")
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def change_config(folder: Path, **changes) -> None:
    """Replaces values of a configuration; those of a dict in that of a tower."""
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))


# ---- tokenizers ----


@pytest.mark.parametrize("left", [[], ["vocab.json"], ["merges.txt", "tokenizer_config.json"]], ids=str)
def test_a_source_without_tokenizer_files_is_told_which_are_expected(folder, refuse, left):
    for name in {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"} - set(left):
        (folder / name).unlink()
    refuse(folder, r"expected a tokenizer beside the text tower, tokenizer\.json or vocab\.json and merges\.txt, got")
    convert(folder, folder.parent / "head", ConversionOptions(new_head=True))


GARBAGE = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[1, 2]",
    "null": "null",
    "no model": "{}",
    "binary": b"\xff\xfe\x00",
    "nested": "[" * 100_000,
    "another format": '{"version": "1.0", "model": {"type": "Zebra", "vocab": {}}}',
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_garbage_tokenizer_is_refused(folder, refuse, kind):
    content = GARBAGE[kind]
    (folder / "tokenizer.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refuse(folder, "expected the tokenizer of a CLIP, got|expected texts to be embedded, got")


def test_a_tokenizer_of_more_tokens_than_the_tower_embeds_is_refused(folder, refuse):
    tokenizer = make_tokenizer(folder)
    tokenizer.add_tokens([f"word{number}" for number in range(7)])
    tokenizer.save_pretrained(folder)
    refuse(folder, r"expected a tokenizer of at most 514 tokens, .* got 521; they belong to different models")


def test_a_tokenizer_that_brings_code_does_not_run_it(folder, refuse):
    """Not even where somebody sits at the terminal and could be asked."""
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Bomb", "auto_map": {"AutoTokenizer": ["bomb.Bomb", "bomb.Bomb"]}})
    )
    (folder / "bomb.py").write_text(f"open({str(folder / 'hacked')!r}, 'w')\nBomb = None\n")
    refuse(folder, "expected the tokenizer of a CLIP, got|expected texts to be embedded, got")
    assert not (folder / "hacked").exists()


def test_a_label_of_too_many_tokens_is_named(folder, tmp_path, refuse):
    (tmp_path / "long.txt").write_text("short\n" + "x" * 80)
    refuse(folder, r"expected labels of at most 77 tokens, got 9\d: a video of xxx", labels=tmp_path / "long.txt")


# ---- configurations ----

BAD_CONFIGS = {
    "a giant vocabulary": ({"text_config": {"vocab_size": GIANT}}, r"vocab_size: .* says 10{12}, the weights 514"),
    "giant layers": ({"text_config": {"num_hidden_layers": GIANT}}, "num_hidden_layers: .* the weights 2"),
    "giant texts": ({"text_config": {"max_position_embeddings": GIANT}}, "max_position_embeddings: .* the weights 77"),
    "a giant width": ({"text_config": {"hidden_size": GIANT}}, "hidden_size: .* the weights 16"),
    "a giant MLP": ({"text_config": {"intermediate_size": GIANT}}, "intermediate_size: .* the weights 32"),
    "a giant projection": ({"projection_dim": GIANT}, "label_embedding_size: .* the weights 12"),
    "giant images": ({"vision_config": {"image_size": GIANT}}, "image_size: .* the weights 16"),
    "giant blocks": ({"vision_config": {"num_hidden_layers": GIANT}}, "num_hidden_layers: .* the weights 2"),
    "no heads": ({"text_config": {"num_attention_heads": 0}}, r"config\.json: "),
    "heads that do not divide": ({"text_config": {"num_attention_heads": 3}}, "not a multiple"),
    "negative heads": ({"text_config": {"num_attention_heads": -2}}, "expected texts to be embedded"),
    "heads as text": ({"vision_config": {"num_attention_heads": "2"}}, "num_attention_heads"),
    "an activation of texts": ({"text_config": {"hidden_act": "zebra"}}, "text tower's configuration: .*zebra"),
    "an activation of images": ({"vision_config": {"hidden_act": "zebra"}}, "expected hidden_act .* got 'zebra'"),
    "an epsilon of texts": ({"text_config": {"layer_norm_eps": -1e9}}, "expected finite embeddings of texts"),
    "an epsilon of images": ({"vision_config": {"layer_norm_eps": 0.0}}, "layer_norm_eps"),
    "a tower that is a list": ({"text_config": [1]}, "text_config"),
    "a tower that is a text": ({"vision_config": "large"}, "vision_config"),
    "images that are no square": ({"vision_config": {"image_size": [SIDE, SIDE * 2]}}, "image_size: "),
    "the vision tower's": ({"model_type": "clip_vision_model"}, "hidden_size|expected model_type clip"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_damaged_configuration_is_refused_and_nothing_large_is_made(folder, refuse, case):
    changes, message = BAD_CONFIGS[case]
    if any(not isinstance(value, dict) for value in changes.values()):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
    else:
        change_config(folder, **changes)
    tracemalloc.start()
    refuse(folder, message)
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()


def test_a_vision_tower_s_configuration_beside_texts_is_refused(folder, refuse):
    config = json.loads((folder / "config.json").read_text())["vision_config"]
    (folder / "config.json").write_text(json.dumps(config))
    refuse(folder, "expected model_type clip, the configuration of two towers, .* got 'clip_vision_model'")


def test_a_clip_without_a_configuration_of_transformers_is_refused(folder, refuse):
    (folder / "config.json").write_text('{"architecture": "vit_tiny"}')
    refuse(folder, "expected model_type clip .* got None")
    (folder / "config.json").unlink()
    refuse(folder, "expected the configuration of a transformers CLIP .* activation and attention heads, got none")


def test_a_configuration_that_names_code_for_attention_has_no_say(folder, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb")
    change_config(folder, text_config={"attn_implementation": "someone/kernels", "_attn_implementation": "x/y"})
    change_config(folder, vision_config={"attn_implementation": "someone/kernels"}, attn_implementation="someone/k")
    options = ConversionOptions(labels=tmp_path / "labels.txt")
    assert convert(folder, tmp_path / "fal", options).comparison.difference < 1e-5
    assert "kernels" not in (tmp_path / "fal" / "text" / "config.json").read_text()


# ---- tensors ----

LAYER = "text_model__encoder__layers__1__"
BAD_TENSORS = {
    "no projection of texts": ({"text_projection__weight": None}, r"text_projection\.weight: expected a tensor of 2"),
    "no tokens": ({"text_model__embeddings__token_embedding__weight": None}, "token_embedding.weight: expected"),
    "tokens of another shape": ({"text_model__embeddings__token_embedding__weight": torch.ones(3)}, "of 2 axes"),
    "texts of another size": (
        {"text_projection__weight": torch.ones(PROJECTION_DIM + 1, 16)},
        "expected embeddings of the size of images', 12, got 13",
    ),
    "a missing bias": ({f"{LAYER}mlp__fc1__bias": None}, r"layers\.1\.mlp\.fc1\.bias: is missing"),
    "another width": ({f"{LAYER}mlp__fc1__bias": torch.ones(3)}, r"expected the shape \(32,\), got \(3,\)"),
    "one tensor more": ({"text_model__zebra": torch.ones(3)}, "text_model.zebra: expected no such tensor"),
    "a layer out of turn": ({"text_model__encoder__layers__9__zebra": torch.ones(3)}, "num_hidden_layers"),
    "NaN": ({f"{LAYER}mlp__fc1__bias": torch.full((32,), torch.nan)}, "expected finite numbers"),
    "infinity": ({"logit_scale": torch.tensor(torch.inf)}, "logit_scale: expected finite numbers"),
    "a scale beyond all": ({"logit_scale": torch.tensor(1e4)}, "expected a difference of at most"),
    "scales": ({"logit_scale": torch.ones(2)}, r"classifier\.logit_scale .* expected the shape \(\), got \(2,\)"),
    "integers": ({f"{LAYER}mlp__fc1__bias": torch.ones(32, dtype=torch.int64)}, "expected floating-point numbers"),
    "no projection of images": ({"visual_projection__weight": None}, "."),
    "no class embedding": ({"vision_model__embeddings__class_embedding": None}, "cls_token: expected a tensor"),
    "several class embeddings": ({"vision_model__embeddings__class_embedding": torch.ones(2, 16)}, "cls_token"),
    "no positions": ({"vision_model__embeddings__position_embedding__weight": None}, "expected a position table"),
    "no first norm": (
        {"vision_model__pre_layrnorm__weight": None, "vision_model__pre_layrnorm__bias": None},
        "norm_layout: .* says 'clip', the weights 'vit'",
    ),
    "a bias of patches": ({"vision_model__embeddings__patch_embedding__bias": torch.ones(16)}, "no such tensor"),
    "a bias of logits": ({"logit_bias": torch.tensor(1.0)}, "logit_bias .* expected no such tensor"),
    "a bias of the projection": ({"visual_projection__bias": torch.ones(12)}, "expected no such tensor"),
    "a head of patches": ({"vision_model__head__probe": torch.ones(1, 1, 16)}, "pooling of the patches"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_that_are_none_of_a_clip_s_are_refused(folder, refuse, case):
    changes, message = BAD_TENSORS[case]
    change_tensors(folder, **changes)
    refuse(folder, message)


def test_a_fal_model_s_text_tower_is_read_with_the_same_care(tmp_path, refuse):
    folder = write_open_checkpoint(tmp_path / "open", ["a", "b"])
    change_config(folder / "text", vocab_size=GIANT)
    refuse(folder, "vocab_size: .* the weights 514")
    change_config(folder / "text", vocab_size=514, model_type="bert")
    change_tensors(folder / "text", text_projection__weight=torch.ones(PROJECTION_DIM + 1, 16))
    refuse(folder, "expected embeddings of the size of images'")
    (folder / "text" / "model.safetensors").unlink()
    refuse(folder, "text: expected model.safetensors")


def test_a_tower_computes_in_float32_and_is_stored_as_the_source_was(tmp_path):
    write_tiny_clip(tmp_path / "clip").to(torch.bfloat16).save_pretrained(tmp_path / "clip")
    tower = read_text_tower(read_source(tmp_path / "clip"), ConversionOptions())
    assert tower.dtype == tower.as_stored().model.dtype == torch.bfloat16
    assert tower.embed(["text"]).dtype == tower.encoder.model.dtype == torch.float32


# ---- models that look alike ----

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 8}
TEXT = {**TOWER, "vocab_size": 30, "max_position_embeddings": 9}


def test_siglip_is_refused_by_its_pooling(tmp_path, refuse):
    SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).save_pretrained(tmp_path / "siglip")
    refuse(tmp_path / "siglip", r"vision_model\.head\.probe: pooling of the patches .* FAL cannot represent")


@pytest.mark.parametrize("model_type", ["siglip", "siglip2"])
def test_siglip_without_its_head_is_refused_by_its_model_type(tmp_path, refuse, model_type):
    config = SiglipConfig(text_config=TEXT, vision_config={**VISION, "vision_use_head": False})
    SiglipModel(config).save_pretrained(tmp_path / "siglip")
    change_config(tmp_path / "siglip", model_type=model_type)
    refuse(tmp_path / "siglip", f"expected model_type clip or clip_vision_model .* got '{model_type}'")


@pytest.mark.parametrize("model_class", [AltCLIPModel, ChineseCLIPModel, MetaClip2Model, XCLIPModel])
def test_other_two_tower_models_are_refused_by_their_model_type(tmp_path, refuse, model_class):
    config = model_class.config_class(text_config={**TEXT, "project_dim": 12}, vision_config=VISION)
    model_class(config).save_pretrained(tmp_path / "other")
    refuse(tmp_path / "other", f"expected model_type clip .* got '{config.model_type}'")


@pytest.mark.parametrize("model_type", ["clipseg", "evaclip", None])
def test_tensors_like_a_clip_s_of_another_model_type_are_refused(folder, refuse, model_type):
    change_config(folder, model_type=model_type)
    refuse(folder, f"expected model_type clip .* got {model_type!r}")


def test_a_classifier_of_images_is_refused_with_what_to_do(folder, tmp_path, refuse):
    model = CLIPForImageClassification(CLIPModel.from_pretrained(folder).config)
    model.save_pretrained(tmp_path / "classifier")
    refuse(tmp_path / "classifier", r"classifier\.\w+: a head on the mean of the patches, .* save the model's vision_")


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.safetensors"])
def test_the_layout_of_openclip_is_refused_with_where_to_go(tmp_path, refuse, name):
    layer = "visual.transformer.resblocks.0"
    tensors = {"visual.class_embedding": torch.ones(16), "visual.ln_pre.weight": torch.ones(16)}
    tensors |= {f"{layer}.attn.in_proj_weight": torch.ones(48, 16), "visual.proj": torch.ones(16, 12)}
    (tmp_path / "open_clip").mkdir()
    path = tmp_path / "open_clip" / name
    save_file(tensors, path) if name.endswith("safetensors") else torch.save(tensors, path)
    refuse(tmp_path / "open_clip", "the layout of OpenCLIP itself, .* take the same model in transformers' layout")


def test_a_repository_of_openclip_alone_says_so(tmp_path, refuse):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "open_clip_config.json").write_text("{}")
    refuse(tmp_path / "hub", "the layout of OpenCLIP itself")
