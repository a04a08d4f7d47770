"""Models that take any labels: their scores, `set_labels`, and what travels with them."""

import pytest
import torch
from naive_fal import naive_label_scores, naive_similarity
from tiny_clip import PROJECTION_DIM, make_text_encoder, write_open_checkpoint
from tiny_fal import VARIANTS, random_clip, tiny_config, tiny_model, variant_name

from fal_hf import FALModel, FALVideoClassifierForVideoClassification
from fal_hf.model.label_space import LABEL_ATTENTIONS
from fal_hf.model.text_encoder import TEXT_FOLDER

LABELS = ["a dog runs", "猫が走る", "a car, turning"]
HIERARCHY = {"a dog runs": "animal", "猫が走る": "animal", "animal": "thing"}
NAMES = [*LABELS, "animal", "thing"]


def open_model(**fields) -> FALVideoClassifierForVideoClassification:
    fields = {"label_embedding_size": PROJECTION_DIM, "label_integration_layer": 1, **fields}
    return tiny_model(tiny_config(classifier_type="similarity", **fields))


def some_embeddings(count: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, PROJECTION_DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
@torch.no_grad()
def test_a_score_is_the_cosine_of_clip_and_label_in_every_scheme(variant):
    model, embeddings = open_model(**variant), some_embeddings(3)
    model.set_labels(LABELS, embeddings)
    clip = random_clip(model.config)
    logits = model(clip).logits
    assert logits.shape == (2, 3) and logits.dtype == torch.float32
    torch.testing.assert_close(
        logits, naive_similarity(model.classifier, model.fal(clip).pooler_output, embeddings), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_scores_do_not_depend_on_the_order_of_labels_or_on_the_others():
    model, embeddings = open_model(), some_embeddings(3)
    clip = random_clip(model.config)
    model.set_labels(LABELS, embeddings)
    before = model(clip).logits
    model.set_labels([LABELS[2], LABELS[0]], embeddings[[2, 0]])
    assert model.config.id2label == {0: LABELS[2], 1: LABELS[0]} and model.config.num_labels == model.num_labels == 2
    torch.testing.assert_close(model(clip).logits, before[:, [2, 0]])


@pytest.mark.parametrize("label_attention", [name for name in LABEL_ATTENTIONS if name != "none"])
@torch.no_grad()
def test_labels_as_tokens_get_the_embeddings_too(label_attention):
    model = open_model(label_attention=label_attention, label_hierarchy={"LABEL_0": "LABEL_1"})
    embeddings = some_embeddings(len(NAMES))
    model.set_labels(LABELS, embeddings, hierarchy=HIERARCHY)
    assert list(model.config.label_space.names) == NAMES and model.config.label_hierarchy == HIERARCHY
    clip = random_clip(model.config)
    outputs, (scores, share) = model(clip), naive_label_scores(model, clip)
    torch.testing.assert_close(outputs.label_logits, scores)
    torch.testing.assert_close(outputs.label_share, share[:, 0])
    assert outputs.logits.shape == (2, 3)
    model.set_labels(LABELS, embeddings.flip(0), hierarchy=HIERARCHY)
    assert not torch.allclose(model(clip).label_logits, scores)


def test_embeddings_of_labels_are_not_trained_and_the_rest_is():
    model = open_model()
    model.set_labels(LABELS, some_embeddings(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(random_clip(model.config), labels=torch.tensor([1, 2])).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    unchanged = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert unchanged == ["fal.label_embeddings.embeddings.weight", "classifier.logit_bias"]  # softmax sees no bias


def test_a_new_model_starts_with_the_scale_of_clip():
    model = FALVideoClassifierForVideoClassification(open_model().config)
    assert model.classifier.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-3)
    assert model.classifier.logit_bias.item() == 0 and model.classifier.projection.weight.std() > 0.1


@torch.no_grad()
def test_labels_and_the_text_tower_travel_with_the_model(tmp_path):
    folder = write_open_checkpoint(tmp_path / "first", LABELS)
    first = FALVideoClassifierForVideoClassification.from_pretrained(folder)
    clip = random_clip(first.config)
    expected = first(clip).logits
    first.set_labels(["something else", *LABELS], prompt="{} for once")
    first.save_pretrained(tmp_path / "second")
    second = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path / "second")
    assert second.config.label_prompt == "{} for once" and second.config.num_labels == 4
    assert torch.equal(second(clip).logits, first(clip).logits)
    second.set_labels(LABELS, prompt="a video of {}")
    torch.testing.assert_close(second(clip).logits, expected)
    assert (tmp_path / "second" / TEXT_FOLDER / "model.safetensors").is_file()


def test_a_tower_that_is_taken_away_stays_away(tmp_path):
    model = FALVideoClassifierForVideoClassification.from_pretrained(write_open_checkpoint(tmp_path / "first", LABELS))
    model.text_encoder = None
    model.save_pretrained(tmp_path / "second")
    assert model.text_encoder is None and not (tmp_path / "second" / TEXT_FOLDER).exists()


def test_the_model_beneath_loads_from_the_same_folder(tmp_path):
    folder = write_open_checkpoint(tmp_path / "first", LABELS)
    whole = FALVideoClassifierForVideoClassification.from_pretrained(folder)
    clip = random_clip(whole.config)
    pooled = FALModel.from_pretrained(folder)(clip).pooler_output
    torch.testing.assert_close(pooled, whole.fal(clip).pooler_output)


def test_the_text_stands_for_the_label_in_the_prompt(tmp_path):
    model = open_model()
    model.text_encoder = make_text_encoder(tmp_path)
    model.set_labels(["{braces} and all"], prompt="we see {} here")
    expected = model.text_encoder(["we see {braces} and all here"])
    assert torch.equal(model.fal.label_embeddings.embeddings.weight, expected)


def test_ten_thousand_labels_work():
    model = open_model()
    model.set_labels([f"label {number}" for number in range(10_000)], some_embeddings(10_000))
    assert model(random_clip(model.config)).logits.shape == (2, 10_000)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_scores_of_a_narrow_model_are_float32(dtype):
    model, embeddings = open_model(), some_embeddings(3)
    model.set_labels(LABELS, embeddings)
    clip = random_clip(model.config)
    expected = model(clip).logits
    model = model.to(dtype)
    model.set_labels(LABELS, embeddings)
    assert model.fal.label_embeddings.embeddings.weight.dtype == dtype
    logits = model(clip.to(dtype)).logits
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": []}, "an empty one"),
        ({"names": "a dog"}, r'expected a list of labels, \["a dog runs", "a car turns"\], got \'a dog\''),
        ({"names": ["a dog", "a dog"]}, "that differ, got a dog more than once"),
        ({"names": ["a dog", " "]}, "each a text, got ' ' among them"),
        ({"names": ["a dog", 3]}, "each a text, got 3 among them"),
        ({"names": LABELS, "prompt": "a video"}, r"expected a prompt with \{\} in the label's place"),
        ({"names": LABELS, "prompt": "{} and {}"}, r"expected a prompt with \{\} in the label's place"),
        ({"names": LABELS, "embeddings": torch.zeros(2, PROJECTION_DIM)}, r"shape \(3, 12\), got \(2, 12\)"),
        ({"names": LABELS, "embeddings": torch.zeros(3, 7)}, r"shape \(3, 12\), got \(3, 7\)"),
        ({"names": LABELS, "embeddings": torch.full((3, PROJECTION_DIM), torch.nan)}, "finite numbers"),
        ({"names": LABELS, "hierarchy": {LABELS[0]: LABELS[1], LABELS[1]: LABELS[0]}}, "its own ancestor"),
        ({"names": LABELS, "hierarchy": {"a cow": "animal"}}, "a cow: expected labels of the model"),
        ({"names": LABELS, "hierarchy": {}}, "expected a parent at least"),
    ],
)
def test_bad_labels_are_refused_and_change_nothing(arguments, message):
    model = open_model()
    model.set_labels(["before"], some_embeddings(1))
    config = model.config.to_dict()
    with pytest.raises(ValueError, match=message):
        model.set_labels(**{"embeddings": some_embeddings(3), **arguments})
    assert model.config.to_dict() == config and len(model.fal.label_embeddings.embeddings.weight) == 1


def test_a_model_for_its_own_labels_says_how_to_get_one_for_any():
    with pytest.raises(ValueError, match=r"trained for 5 labels; convert a CLIP with `fal convert"):
        tiny_model().set_labels(LABELS)


def test_a_model_without_a_text_tower_asks_for_embeddings():
    with pytest.raises(ValueError, match="came with a text tower, or the embeddings of the labels"):
        open_model().set_labels(LABELS)


def test_labels_as_tokens_are_no_more_than_memory_holds():
    names = [f"label {number}" for number in range(20_001)]
    with pytest.raises(ValueError, match="at most 20,000 labels as tokens, those above them included, got 20,001"):
        open_model(label_attention="divided").set_labels(names, some_embeddings(len(names)))


@pytest.mark.parametrize(("trained_with", "given"), [(None, HIERARCHY), ({"LABEL_0": "LABEL_1"}, None)])
def test_labels_as_tokens_keep_to_what_they_were_trained_with(trained_with, given):
    model = open_model(label_attention="divided", label_hierarchy=trained_with)
    with pytest.raises(ValueError, match="as the labels as tokens were trained with"):
        model.set_labels(LABELS, some_embeddings(5), hierarchy=given)
