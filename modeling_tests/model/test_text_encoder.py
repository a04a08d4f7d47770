"""Texts to embeddings: as CLIP's, once each, and what is refused."""

import json
from copy import deepcopy

import pytest
import torch
from tiny_clip import PROJECTION_DIM, make_text_encoder, write_tiny_clip
from transformers import CLIPTokenizer

from fal_hf.model import text_encoder
from fal_hf.model.text_encoder import TEXT_FOLDER, TextEncoder

TEXTS = ["a dog runs", "猫が走る", "a car turns to the left"]


@pytest.fixture
def encoder(tmp_path):
    return make_text_encoder(tmp_path / "files")


def test_embeddings_are_those_of_clip(tmp_path, encoder):
    clip, tokenizer = write_tiny_clip(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    expected = [clip.get_text_features(**tokenizer([text], return_tensors="pt")).pooler_output for text in TEXTS]
    torch.testing.assert_close(encoder(TEXTS), torch.cat(expected), atol=1e-5, rtol=1e-5)
    assert encoder(TEXTS).shape == (3, PROJECTION_DIM) and not encoder(TEXTS).requires_grad


def test_a_text_is_computed_once(encoder, monkeypatch):
    monkeypatch.setattr(text_encoder, "BATCH_SIZE", 2)
    computed = []
    monkeypatch.setattr(encoder.model, "forward", spy(encoder.model.forward, computed))
    first = encoder(TEXTS)
    assert torch.equal(encoder([TEXTS[1], TEXTS[0], TEXTS[1]]), first[[1, 0, 1]])
    assert computed == [2, 1]
    encoder([*TEXTS, "another"])
    assert computed == [2, 1, 1]


def test_no_more_embeddings_are_kept_than_memory_holds(encoder, monkeypatch):
    monkeypatch.setattr(text_encoder, "MOST_KEPT", 3)
    first = encoder(TEXTS)
    encoder(["another", TEXTS[0]])
    assert encoder._known.keys() == {"another", TEXTS[0]}
    torch.testing.assert_close(encoder(TEXTS), first, atol=1e-6, rtol=1e-6)


def spy(forward, computed: list[int]):
    def watched(input_ids, **kwargs):
        computed.append(len(input_ids))
        return forward(input_ids, **kwargs)

    return watched


def test_a_saved_encoder_computes_the_same(tmp_path, encoder):
    encoder.save_pretrained(tmp_path / "model")
    loaded = TextEncoder.from_pretrained(tmp_path / "model")
    assert loaded is not None and torch.equal(loaded(TEXTS), encoder(TEXTS))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [TEXT_FOLDER]


def test_a_copy_of_a_model_shares_its_encoder(encoder):
    assert deepcopy({"encoder": encoder})["encoder"] is encoder


def test_a_folder_without_one_has_none(tmp_path):
    assert TextEncoder.from_pretrained(tmp_path) is None


def test_a_text_that_is_too_long_is_named(encoder):
    with pytest.raises(ValueError, match=r"at most 77 tokens, got 103: a{80} \.\.\."):
        encoder(["a dog", "a" * 101])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", "config.json"),
        ("config.json", json.dumps({"model_type": "bert"}).encode(), "missing|expected a text tower"),
        ("model.safetensors", b"no weights", "expected a text tower"),
        ("model.safetensors", None, "model.safetensors"),
        ("tokenizer.json", b"[]", "expected a text tower"),
    ],
)
def test_a_damaged_folder_is_refused_by_its_name(tmp_path, encoder, file, content, message):
    encoder.save_pretrained(tmp_path)
    (tmp_path / TEXT_FOLDER / file).unlink()
    if content is not None:
        (tmp_path / TEXT_FOLDER / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        TextEncoder.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)
