"""Labels as tokens, as options name them: what they change of a configuration, and files that are refused."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from tiny_fal import tiny_config

from fal_hf.conversion.label_tokens import label_fields

LABELS = ["a", "b", "c"]
HIERARCHY = {"a": "vowel"}


def fields_of(labels=LABELS, config=None, **options):
    given = dict.fromkeys(("label_attention", "label_integration_layer", "hierarchy", "label_embeddings"))
    return label_fields(config or tiny_config(), SimpleNamespace(**given | options), labels)


def test_what_no_option_names_stays_and_a_hierarchy_belongs_to_its_labels(tmp_path):
    config = tiny_config(num_labels=3, id2label=dict(enumerate("abc")), label_hierarchy=HIERARCHY)
    assert fields_of(config=config) == ({"label_hierarchy": HIERARCHY}, None)
    assert fields_of(["a", "b"], config=config) == ({"label_hierarchy": None}, None)
    (tmp_path / "hierarchy.json").write_text(json.dumps({"b": "consonant"}))
    fields, _ = fields_of(hierarchy=tmp_path / "hierarchy.json", label_attention="label", config=config)
    assert fields == {"label_attention": "label", "label_hierarchy": {"b": "consonant"}}


@pytest.mark.parametrize("name", ["embeddings", "anything"])
def test_embeddings_are_a_row_for_each_label_and_those_above(tmp_path, name):
    rows = torch.arange(12, dtype=torch.float16).view(4, 3)
    save_file({name: rows}, tmp_path / "rows.safetensors")
    (tmp_path / "hierarchy.json").write_text(json.dumps(HIERARCHY))
    files = {"hierarchy": tmp_path / "hierarchy.json", "label_embeddings": tmp_path / "rows.safetensors"}
    fields, embeddings = fields_of(label_attention="unified", **files)
    assert fields["label_embedding_size"] == 3 and torch.equal(embeddings, rows.float())


TOO_MANY = {"first": torch.zeros(3, 2), "second": torch.zeros(3, 2)}
BAD_EMBEDDINGS = {
    "rows": (
        {"embeddings": torch.zeros(4, 2)},
        r"expected a row for each of 3 labels \(a, b, c\), got the shape \(4, 2\)",
    ),
    "rank": ({"embeddings": torch.zeros(3)}, r"got the shape \(3,\)"),
    "nan": ({"embeddings": torch.full((3, 2), float("nan"))}, "expected finite numbers"),
    "inf": ({"embeddings": torch.full((3, 2), float("inf"))}, "expected finite numbers"),
    "integers": ({"embeddings": torch.zeros(3, 2, dtype=torch.int64)}, "expected floating-point numbers"),
    "names": (TOO_MANY, "expected a single tensor, or one with the name embeddings; got first, second"),
    "nothing": ({}, "expected a single tensor, or one with the name embeddings; got none"),
}


@pytest.mark.parametrize("name", BAD_EMBEDDINGS)
def test_other_embeddings_are_refused_by_name(tmp_path, name):
    tensors, message = BAD_EMBEDDINGS[name]
    save_file(tensors, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=rf"{name}\.safetensors: .*{message}"):
        fields_of(label_attention="label", label_embeddings=tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("name", ["text.safetensors", "text.txt", "gone.safetensors"])
def test_what_is_no_safetensors_file_is_refused_by_name(tmp_path, name):
    if "text" in name:
        (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match=name):
        fields_of(label_attention="label", label_embeddings=tmp_path / name)


def test_a_hierarchy_that_cannot_be_read_is_refused_with_its_file(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json: expected a JSON file of label and parent, got No such file"):
        fields_of(hierarchy=tmp_path / "gone.json")


def test_a_hierarchy_of_other_labels_is_refused_with_its_file(tmp_path):
    (tmp_path / "strange.json").write_text(json.dumps({"zebra": "animal"}))
    with pytest.raises(ValueError, match=r"strange\.json: zebra: expected labels of the model \(a, b, c\) or parents"):
        fields_of(hierarchy=tmp_path / "strange.json")


@pytest.mark.parametrize("option", [{"label_integration_layer": 1}, {"label_embeddings": "rows.safetensors"}])
def test_what_only_tokens_have_is_refused_without_them(tmp_path, monkeypatch, option):
    save_file({"embeddings": torch.zeros(3, 2)}, tmp_path / "rows.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="expected label_attention with it"):
        fields_of(**option)
    with pytest.raises(ValueError, match="expected label_attention with it"):
        fields_of(
            **option, label_attention="none", config=tiny_config(label_attention="label", label_integration_layer=1)
        )
