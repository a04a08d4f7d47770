"""Exports by transformers' exporters, with a dynamic batch: what comes out gives the model's own logits."""

from itertools import product

import pytest
import torch
from tiny_fal import random_clip, tiny_model
from torch.export import Dim

from fal_hf.model.attention_schemes import ATTENTION_TYPES
from fal_hf.model.label_space import LABEL_ATTENTIONS

exporters = pytest.importorskip("transformers.exporters")

LIBRARIES = {"Dynamo": (), "Onnx": ("onnx", "onnxruntime", "onnxscript"), "OpenVINO": ("openvino", "onnxscript")}
QUICK = ("Dynamo", "divided_space_time")
CASES = [
    pytest.param(*case, marks=[] if case == QUICK else pytest.mark.slow)
    for case in product(LIBRARIES, ATTENTION_TYPES)
]


def export(format_name: str, model, clip):
    """The exported model, a callable; its batch axis takes any size."""
    for library in LIBRARIES[format_name]:
        pytest.importorskip(library)
    exporter = getattr(exporters, f"{format_name}Exporter")()
    config = getattr(exporters, f"{format_name}Config")(dynamic_shapes={"pixel_values": {0: Dim("batch")}})
    exported = exporter.export(model, {"pixel_values": clip}, config)
    if format_name == "OpenVINO":  # whose default precision is bfloat16
        exported.to(config={"INFERENCE_PRECISION_HINT": "f32"})
    return exported


@pytest.mark.parametrize(("format_name", "scheme"), CASES)
@torch.no_grad()
def test_an_exported_model_gives_the_same_logits_for_any_batch(format_name, scheme):
    model = tiny_model(attention_type=scheme, grid=(2, 3, 4), num_hidden_layers=1)
    exported = export(format_name, model, random_clip(model.config, batch=2))
    for batch in (2, 5, 1):
        clip = random_clip(model.config, batch=batch, seed=batch)
        logits = exported(pixel_values=clip)["logits"]
        assert logits.shape == (batch, 5)
        torch.testing.assert_close(logits.float(), model(clip).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("format_name", "label_attention"), product(LIBRARIES, LABEL_ATTENTIONS[1:]))
@torch.no_grad()
def test_an_exported_model_with_label_tokens_gives_the_same_scores_for_any_batch(format_name, label_attention):
    labels = {"label_attention": label_attention, "label_hierarchy": {"LABEL_0": "LABEL_1", "LABEL_1": "above"}}
    sizes = {"num_hidden_layers": 2, "label_integration_layer": 1, "label_embedding_size": 6}
    model = tiny_model(grid=(2, 3, 4), **labels, **sizes)
    exported = export(format_name, model, random_clip(model.config, batch=2))
    for batch in (2, 5, 1):
        clip = random_clip(model.config, batch=batch, seed=batch)
        scores, expected = exported(pixel_values=clip), model(clip)
        for name in ("logits", "label_logits", "label_share"):
            torch.testing.assert_close(scores[name].float(), expected[name], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", LIBRARIES)
@torch.no_grad()
def test_an_exported_model_with_a_share_of_tokens_gives_the_same_logits_for_any_batch(format_name):
    model = tiny_model(grid=(2, 4, 4), num_hidden_layers=1, patch_layout="adaptive", patch_share=0.6)
    exported = export(format_name, model, random_clip(model.config, batch=2))
    for batch in (2, 5, 1):
        clip = random_clip(model.config, batch=batch, seed=batch)
        torch.testing.assert_close(
            exported(pixel_values=clip)["logits"].float(), model(clip).logits, atol=1e-4, rtol=1e-4
        )


@pytest.mark.slow
@torch.no_grad()
def test_a_saved_export_loads_and_gives_the_same_logits(tmp_path):
    model = tiny_model(grid=(2, 2, 2), num_hidden_layers=1)
    clip = random_clip(model.config)
    exported = export("Onnx", model, clip)
    exported.save_pretrained(tmp_path)
    again = type(exported).from_pretrained(tmp_path)
    torch.testing.assert_close(again(pixel_values=clip)["logits"], model(clip).logits, atol=1e-4, rtol=1e-4)
