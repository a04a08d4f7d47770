"""Conversion: foreign checkpoints that are refused, by what is in them and by what is wrong with them."""

import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from foreign_checkpoints import (
    FRAMES,
    HEADS,
    PATCH,
    WIDTH,
    change_image_state,
    image_state,
    reference_checkpoint,
    save_pickle,
)
from safetensors.torch import save_file

from fal_hf.conversion import ConversionError, ConversionOptions, convert
from fal_hf.conversion.tensor_names import REFUSED

EXAMPLES_OF_REFUSED = [
    "dist_token",
    "deit.embeddings.distillation_token",
    "head_dist.weight",
    "norm_pre.weight",
    "vision_model.pre_layrnorm.weight",
    "blocks.0.ls1.gamma",
    "encoder.layer.0.layer_scale1.lambda1",
    "blocks.0.gamma_1",
    "rope.freqs_cis",
    "blocks.0.attn.rel_pos_h",
    "encoder.layer.0.attention.attention.relative_position_bias.relative_position_bias_table",
    "reg_token",
    "embeddings.register_tokens",
    "blocks.0.attn.q_norm.weight",
    "blocks.0.attn.norm.weight",
    "fc_norm.weight",
    "vision_model.head.probe",
    "attn_pool.q.weight",
    "pre_logits.fc.weight",
    "blocks.0.mlp.w12.weight",
    "base_model.blocks.0.attn.qkv.lora_A.weight",
]


@pytest.mark.parametrize("name", EXAMPLES_OF_REFUSED)
def test_what_fal_cannot_represent_is_refused_by_name(tmp_path, output, name):
    save_file(image_state() | {name: torch.ones(1, 1, WIDTH)}, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError, match="which FAL cannot represent") as error:
        convert(tmp_path / "model.safetensors", output, ConversionOptions(num_attention_heads=HEADS))
    assert name in str(error.value)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_every_reason_to_refuse_has_an_example():
    for pattern in REFUSED:
        assert any(re.search(pattern, name) for name in EXAMPLES_OF_REFUSED), pattern


BAD_TENSORS = {
    "a tensor of another model": ({"blocks__0__attn__extra": torch.ones(3)}, r"attn\.extra"),
    "a missing tensor": ({"blocks__1__mlp__fc2__bias": None}, r"layers\.1\.mlp\.fc2\.bias"),
    "a missing CLS token": ({"cls_token": None}, "cls_token: expected a tensor"),
    "a missing block": ({"blocks__7__norm1__weight": torch.ones(WIDTH)}, r"expected blocks 0 to 2, got \[0, 1, 7\]"),
    "a block number out of range": ({"blocks__9999999__norm1__weight": torch.ones(WIDTH)}, "9999999"),
    "another width": ({"norm__weight": torch.ones(WIDTH + 1)}, r"expected the shape \(32,\), got \(33,\)"),
    "a tensor twice": ({"module__norm__weight": torch.ones(WIDTH)}, "another tensor takes its place"),
    "tubelets": ({"patch_embed__proj__weight": torch.ones(WIDTH, 3, 2, PATCH, PATCH)}, "patches of several frames"),
    "patches that are no square": ({"patch_embed__proj__weight": torch.ones(WIDTH, 3, 8, 4)}, "kernel of square"),
    "positions that are no square": ({"pos_embed": torch.ones(1, 16, WIDTH)}, "got 16 positions"),
    "no position table": ({"pos_embed": None}, "expected a position table"),
    "no positions for patches": ({"pos_embed": torch.ones(1, 1, WIDTH)}, "got 1 positions"),
    "numbers without a shape": ({"cls_token": torch.tensor(1.0)}, "expected a tensor of 3 axes"),
    "NaN": ({"norm__bias": torch.full((WIDTH,), torch.nan)}, "norm.bias: expected finite numbers"),
    "infinity": ({"norm__bias": torch.full((WIDTH,), torch.inf)}, "norm.bias: expected finite numbers"),
    "whole numbers": ({"norm__bias": torch.ones(WIDTH, dtype=torch.int8)}, "expected floating-point numbers"),
    "an empty tensor": ({"norm__bias": torch.ones(0)}, "expected all numbers of its shape"),
    "more numbers than are stored": ({"norm__bias": torch.ones(1).expand(2**40)}, "expected all numbers of its shape"),
    "no tensor": ({"norm__bias": [1.0, 2.0]}, "norm.bias: expected a tensor, got a list"),
    "a sparse tensor": ({"norm__bias": torch.ones(WIDTH).to_sparse()}, "torch.sparse_coo"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors_are_refused_with_the_reason(tmp_path, output, case):
    changes, message = BAD_TENSORS[case]
    source = save_pickle(tmp_path / "weights.pth", change_image_state(**changes))
    with pytest.raises(ConversionError, match=message):
        convert(source, output, ConversionOptions(num_attention_heads=HEADS))
    assert os.listdir(tmp_path) == ["weights.pth"]


CONTRADICTIONS = {
    "num_hidden_layers": 12,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_channels": 4,
    "patch_size": 4,
    "image_size": 64,
    "num_frames": 8,
    "attention_type": "joint_space_time",
    "qkv_bias": False,
    "id2label": {"0": "a", "1": "b", "2": "c"},
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_configuration_that_contradicts_the_tensors_is_refused(timesformer_folder, tmp_path, output, name):
    source = tmp_path / "source"
    source.mkdir()
    config = json.loads((timesformer_folder / "config.json").read_text()) | {name: CONTRADICTIONS[name]}
    (source / "config.json").write_text(json.dumps(config))
    (source / "model.safetensors").symlink_to(timesformer_folder / "model.safetensors")
    with pytest.raises(ConversionError, match=r"config\.json says .* the weights") as error:
        convert(source, output)
    assert str(error.value).startswith("num_labels" if name == "id2label" else name)
    assert not output.exists()


def test_the_reference_cfg_is_checked_as_well(tmp_path, output):
    checkpoint = reference_checkpoint()
    checkpoint["cfg"] = checkpoint["cfg"].replace(f"NUM_FRAMES: {FRAMES}", "NUM_FRAMES: 96")
    source = save_pickle(tmp_path / "checkpoint.pyth", checkpoint)
    with pytest.raises(ConversionError, match="num_frames: the checkpoint's cfg says 96, the weights 4"):
        convert(source, output, ConversionOptions(num_attention_heads=HEADS))


def test_heads_are_asked_for_where_neither_a_configuration_nor_the_width_tells_them(tmp_path, output):
    save_file(image_state(), tmp_path / "model.safetensors")
    with pytest.raises(ConversionError, match="64 channels, got the width 32; give --num-attention-heads"):
        convert(tmp_path / "model.safetensors", output)


def test_heads_that_contradict_the_configuration_are_refused(vit_folder, output):
    with pytest.raises(ConversionError, match=r"num_attention_heads: .* says 4, the option 2"):
        convert(vit_folder, output, ConversionOptions(num_attention_heads=2))


@pytest.mark.parametrize("model_type", ["deit", "dinov2", "vit_mae", None, 7])
def test_a_configuration_of_another_model_is_refused(vit_folder, tmp_path, output, model_type):
    source = tmp_path / "source"
    source.mkdir()
    config = json.loads((vit_folder / "config.json").read_text()) | {"model_type": model_type}
    (source / "config.json").write_text(json.dumps(config))
    (source / "model.safetensors").symlink_to(vit_folder / "model.safetensors")
    with pytest.raises(ConversionError, match="expected model_type vit"):
        convert(source, output)


def test_another_model_is_refused_by_its_names(tmp_path, output):
    torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), tmp_path / "cnn.pt")
    with pytest.raises(ConversionError, match="expected the names of one of FAL, transformers TimeSformer"):
        convert(tmp_path / "cnn.pt", output)


class Bomb:
    """Runs code where it is unpickled without care."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pyth", "pytorch_model.bin"])
def test_a_pickle_that_would_run_code_does_not(tmp_path, output, name):
    torch.save({"model_state": image_state(), "cfg": Bomb(tmp_path / "hacked")}, tmp_path / name)
    with pytest.raises(ConversionError, match="only tensors and plain values are unpickled"):
        convert(tmp_path / name, output)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "hacked")))
    with pytest.raises(ConversionError, match="only tensors and plain values are unpickled"):
        convert(tmp_path / name, output)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, output, suffix, share):
    source = tmp_path / f"weights{suffix}"
    save_file(image_state(), source) if suffix == ".safetensors" else torch.save(image_state(), source)
    source.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    with pytest.raises(ConversionError, match="expected a file of weights, got"):
        convert(source, output)
    assert os.listdir(tmp_path) == [source.name]


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path, output):
    torch.save(image_state(), tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for info in plain.infolist():
            bomb.writestr(info.filename, plain.read(info))
        bomb.writestr("plain/data/99", bytes(10_000_000))
    with pytest.raises(ConversionError, match=r"expected an archive as torch\.save writes it"):
        convert(tmp_path / "bomb.pth", output)


@pytest.mark.parametrize("content", [b"\x00" * 64, b"not a checkpoint", pickle.dumps([1, 2]), pickle.dumps({1: 2})])
def test_a_file_of_something_else_is_refused(tmp_path, output, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ConversionError, match="expected"):
        convert(tmp_path / "weights.pth", output)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"model_type": "vit"', '"vit"', "[" * 100_000])
def test_a_damaged_configuration_is_refused(vit_folder, tmp_path, output, text):
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(text)
    (source / "model.safetensors").symlink_to(vit_folder / "model.safetensors")
    with pytest.raises(ConversionError, match=r"config\.json: expected a JSON"):
        convert(source, output)


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": 5}, {"num_attention_heads": "4"}, {"hidden_act": "no_such"}, {"image_size": []}]
)
def test_a_configuration_of_bad_values_is_refused(timesformer_folder, tmp_path, output, change):
    source = tmp_path / "source"
    source.mkdir()
    config = json.loads((timesformer_folder / "config.json").read_text()) | change
    (source / "config.json").write_text(json.dumps(config))
    (source / "model.safetensors").symlink_to(timesformer_folder / "model.safetensors")
    with pytest.raises(ConversionError):
        convert(source, output)
    assert not output.exists()
