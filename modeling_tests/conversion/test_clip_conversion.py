"""Conversion of CLIPs: what the converted folder computes, which labels it takes, and what is written."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from foreign_checkpoints import moving_clip, still_clip
from safetensors.torch import load_file, save_file
from tiny_clip import PATCH_SIZE, PROJECTION_DIM, SIDE, write_open_checkpoint, write_tiny_clip
from tiny_fal import tiny_model
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from fal_hf import FALModel, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.conversion import ConversionError, ConversionOptions, convert
from fal_hf.conversion.comparison import MOST_TEXTS
from fal_hf.conversion.loading import kept_dtype
from fal_hf.model.attention_schemes import ATTENTION_SCHEMES, ATTENTION_TYPES
from fal_hf.model.text_encoder import TextEncoder

LABELS = ["a dog runs", "ein Hund bellt", "nobody", "a car turns"]
HIERARCHY = {"a dog runs": "dog", "ein Hund bellt": "dog", "dog": "animal"}
LABEL_TABLE = "fal.label_embeddings.embeddings.weight"


@pytest.fixture
def labels(tmp_path) -> Path:
    """A file of labels."""
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    return tmp_path / "labels.txt"


def load(folder: Path, model_class=FALVideoClassifierForVideoClassification):
    return model_class.from_pretrained(folder, dtype=torch.float32).eval()


def clip_logits(folder: Path, frame: torch.Tensor, prompt: str = "a video of {}", names=LABELS) -> torch.Tensor:
    """What transformers' CLIP says of a frame and the labels' texts."""
    tokens = AutoTokenizer.from_pretrained(folder)(
        [prompt.format(name) for name in names], padding=True, return_tensors="pt"
    )
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    return model(**tokens, pixel_values=frame, interpolate_pos_encoding=True).logits_per_image


def clip_frames(**kwargs) -> torch.Tensor:
    return moving_clip(height=SIDE, width=SIDE, **kwargs)


def assert_close(result: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5):
    torch.testing.assert_close(result, expected, atol=tolerance, rtol=tolerance)


# ---- what is computed ----


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@torch.no_grad()
def test_every_scheme_scores_a_still_clip_as_clip_scores_the_frame(
    tmp_path, output, labels, attention_type, hidden_act
):
    write_tiny_clip(tmp_path / "clip", hidden_act=hidden_act)
    options = ConversionOptions(labels=labels, attention_type=attention_type, num_frames=3)
    conversion = convert(tmp_path / "clip", output, options)
    model = load(output)
    assert (model.config.attention_type, model.config.hidden_act) == (attention_type, hidden_act)
    frames, rows, columns = ATTENTION_SCHEMES[attention_type].image_grid((3, SIDE // PATCH_SIZE, SIDE // PATCH_SIZE))
    clip = still_clip(frames=frames, height=rows * PATCH_SIZE, width=columns * PATCH_SIZE)
    assert_close(model(clip).logits, clip_logits(tmp_path / "clip", clip[:, 0]))
    assert conversion.comparison.difference < 1e-5
    assert (conversion.comparison.model, conversion.comparison.output) == ("CLIPModel", "logits")


@torch.no_grad()
def test_space_only_is_the_mean_of_the_frames_embeddings_before_they_are_normalized(clip_folder, output, labels):
    """As ViFi-CLIP averages frames; divided attention, whose extra steps are zero, equals it on a still clip."""
    convert(clip_folder, output, ConversionOptions(labels=labels, attention_type="space_only"))
    model, clip = load(output), clip_frames(frames=5)
    original = CLIPModel.from_pretrained(clip_folder).eval()
    frames = original.get_image_features(clip.flatten(0, 1)).pooler_output.unflatten(0, (2, 5))
    embedding = model.classifier.projection(model.fal(clip).pooler_output)
    assert_close(embedding, frames.mean(dim=1))
    assert (frames / frames.norm(dim=-1, keepdim=True)).mean(dim=1).sub(embedding).abs().max() > 0.1
    divided = load(convert(clip_folder, output.with_name("divided"), ConversionOptions(labels=labels)).output)
    still = still_clip(frames=5, height=SIDE, width=SIDE)
    assert divided.config.attention_type == "divided_space_time"
    assert_close(divided.fal(still).pooler_output, model.fal(still).pooler_output)


@pytest.mark.parametrize("size", [32, (24, 24), (32, 24)], ids=str)
@torch.no_grad()
def test_another_size_is_that_of_clip_s_own_interpolation(clip_folder, output, labels, size):
    convert(clip_folder, output, ConversionOptions(labels=labels, image_size=size, num_frames=2))
    height, width = (size, size) if isinstance(size, int) else size
    clip = still_clip(frames=2, height=height, width=width)
    logits = load(output)(clip, interpolate_pos_encoding=False).logits
    assert_close(logits, clip_logits(clip_folder, clip[:, 0]))


@pytest.mark.parametrize(
    ("stored", "asked", "kept"),
    [
        (torch.float32, "bfloat16", torch.bfloat16),
        (torch.float16, None, torch.float16),
        (torch.bfloat16, None, torch.bfloat16),
        (torch.bfloat16, "float32", torch.float32),
    ],
    ids=str,
)
def test_both_towers_have_the_precision_of_the_source_or_the_one_asked_for(
    tmp_path, output, labels, stored, asked, kept
):
    write_tiny_clip(tmp_path / "clip").to(stored).save_pretrained(tmp_path / "clip")
    conversion = convert(tmp_path / "clip", output, ConversionOptions(labels=labels, dtype=asked))
    for folder in (output, output / "text"):
        tensors = load_file(folder / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {kept} == {kept_dtype(tensors)}
    assert conversion.comparison.difference < 1e-4
    model = load(output)
    texts = model.text_encoder([f"a video of {name}" for name in LABELS])
    assert torch.equal(model.fal.label_embeddings.embeddings.weight, texts.to(kept).float())


def change_tensors(folder: Path, change) -> None:
    """Writes a folder's weights anew."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def change_config(folder: Path, **changes) -> None:
    """Writes a folder's configuration anew; a dict changes that of a tower."""
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(config.get(name), dict) else value
    (folder / "config.json").write_text(json.dumps(config))


@torch.no_grad()
def test_an_old_checkpoint_with_numbers_of_positions_is_read_from_its_pickle(tmp_path, output, labels):
    folder = tmp_path / "clip"
    write_tiny_clip(folder)
    clip = still_clip(frames=8, height=SIDE, width=SIDE)
    expected = clip_logits(folder, clip[:, 0])
    tensors = load_file(folder / "model.safetensors")
    tensors |= {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    tensors |= {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.json").unlink()
    # the end of a text was another number once, and the towers' own width of embeddings is of no effect
    change_config(folder, text_config={"projection_dim": 512}, vision_config={"projection_dim": 512})
    conversion = convert(folder, output, ConversionOptions(labels=labels))
    assert_close(load(output)(clip).logits, expected)
    assert all(name.endswith("position_ids") for name in conversion.left_out) and len(conversion.left_out) == 2


def test_every_tensor_is_used_and_what_a_clip_has_not_is_new(clip_folder, output, labels):
    conversion = convert(clip_folder, output, ConversionOptions(labels=labels))
    zero = "zero, as a CLIP has none"
    assert conversion.new == {
        "fal.embeddings.time_embeddings": "zero",
        "fal.embeddings.patch_embeddings.projection.bias": zero,
        "classifier.logit_bias": zero,
        LABEL_TABLE: "of the texts 'a video of {}'",
    }
    assert not conversion.left_out
    config, tensors = conversion.config, load_file(output / "model.safetensors")
    assert (config.norm_layout, config.classifier_type) == ("clip", "similarity")
    assert (config.label_embedding_size, config.layer_norm_eps) == (PROJECTION_DIM, 1e-5)
    assert (
        not tensors["fal.embeddings.patch_embeddings.projection.bias"].any() and tensors["classifier.logit_bias"] == 0
    )
    text = CLIPTextModelWithProjection.from_pretrained(output / "text")
    assert conversion.num_text_parameters == text.num_parameters()
    original = load_file(clip_folder / "model.safetensors")
    assert all(torch.equal(tensor, original[name]) for name, tensor in text.state_dict().items())
    summary = conversion.summary()
    assert summary["text tower"] == f"{text.num_parameters():,} parameters"
    assert summary["scores"] == "similarity to 4 label embeddings of size 12, prompt `a video of {}`"


# ---- labels ----


@torch.no_grad()
def test_the_prompt_is_what_stands_for_a_label(clip_folder, output, labels):
    convert(clip_folder, output, ConversionOptions(labels=labels, prompt="{}, filmed from a car"))
    model, frame = load(output), clip_frames(frames=1)
    assert model.config.label_prompt == "{}, filmed from a car"
    expected = clip_logits(clip_folder, frame[:, 0], "{}, filmed from a car")
    assert_close(model(frame).logits, expected)
    model.set_labels(["rain", "snow"])
    assert_close(model(frame).logits, clip_logits(clip_folder, frame[:, 0], "{}, filmed from a car", ["rain", "snow"]))


def test_more_labels_than_are_compared_are_all_embedded(clip_folder, tmp_path, output):
    names = [f"label {number}" for number in range(MOST_TEXTS + 3)]
    (tmp_path / "many.json").write_text(json.dumps(names))
    assert convert(clip_folder, output, ConversionOptions(labels=tmp_path / "many.json")).comparison.difference < 1e-5
    frame = clip_frames(frames=1)
    with torch.no_grad():
        assert_close(load(output)(frame).logits, clip_logits(clip_folder, frame[:, 0], names=names))


def test_a_clip_without_labels_is_refused_with_what_to_do(clip_folder, output):
    with pytest.raises(ConversionError, match=r"expected --labels .* set_labels\), or --new-head"):
        convert(clip_folder, output)
    assert not output.exists()


@pytest.fixture
def rows(tmp_path) -> Path:
    """A file of embeddings for the labels and the two above them."""
    table = torch.randn(len(LABELS) + 2, PROJECTION_DIM, generator=torch.Generator().manual_seed(5))
    save_file({"embeddings": table}, tmp_path / "rows.safetensors")
    return tmp_path / "rows.safetensors"


@pytest.fixture
def hierarchy(tmp_path) -> Path:
    (tmp_path / "hierarchy.json").write_text(json.dumps(HIERARCHY))
    return tmp_path / "hierarchy.json"


@torch.no_grad()
def test_given_embeddings_take_the_place_of_the_texts(clip_folder, output, labels, rows, hierarchy):
    options = ConversionOptions(labels=labels, label_embeddings=rows, hierarchy=hierarchy)
    conversion = convert(clip_folder, output, options)
    assert conversion.new[LABEL_TABLE] == "from rows.safetensors"
    model, frame = load(output), clip_frames(frames=1)
    original = CLIPModel.from_pretrained(clip_folder).eval()
    table = load_file(rows)["embeddings"][: len(LABELS)]
    image = original.get_image_features(frame[:, 0]).pooler_output
    cosines = torch.nn.functional.cosine_similarity(image[:, None], table[None], dim=-1)
    assert_close(model(frame).logits, original.logit_scale.exp() * cosines)
    model.set_labels(LABELS)
    assert_close(model(frame).logits, clip_logits(clip_folder, frame[:, 0]))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, PROJECTION_DIM + 1), r"expected rows of 12 numbers, .* got the shape \(4, 13\)"),
        ((3, PROJECTION_DIM), r"expected a row for each of 4 labels .* got the shape \(3, 12\)"),
    ],
)
def test_embeddings_of_another_shape_are_refused(clip_folder, tmp_path, output, labels, shape, message):
    save_file({"embeddings": torch.ones(shape)}, tmp_path / "rows.safetensors")
    options = ConversionOptions(labels=labels, label_embeddings=tmp_path / "rows.safetensors")
    with pytest.raises(ConversionError, match=message):
        convert(clip_folder, output, options)
    assert not output.exists()


@torch.no_grad()
def test_a_hierarchy_gives_those_above_the_labels_texts_too(clip_folder, output, labels, hierarchy):
    convert(clip_folder, output, ConversionOptions(labels=labels, hierarchy=hierarchy))
    model = load(output)
    names = [*LABELS, "dog", "animal"]
    assert model.config.label_space.names == tuple(names)
    assert_close(
        model.fal.label_embeddings.embeddings.weight, model.text_encoder([f"a video of {name}" for name in names])
    )


@pytest.mark.parametrize("label_attention", ["divided", "unified", "label"])
@torch.no_grad()
def test_labels_of_a_clip_become_tokens_that_start_from_their_texts(
    clip_folder, output, labels, hierarchy, label_attention
):
    tokens = {"label_attention": label_attention, "label_integration_layer": 1, "hierarchy": hierarchy}
    conversion = convert(clip_folder, output, ConversionOptions(labels=labels, **tokens))
    model = load(output)
    kind = "CLS embedding" if label_attention == "divided" else "CLS token before the labels"
    assert (conversion.comparison.output, conversion.comparison.model) == (kind, "CLIPVisionModel")
    assert len(model.fal.label_embeddings.embeddings.weight) == len(LABELS) + 2
    assert model(clip_frames()).label_logits.isfinite().all()
    assert "The weights of its labels as tokens are untrained" in (output / "README.md").read_text()
    if label_attention == "divided":
        model.set_labels(["x", "y"], hierarchy={"x": "letter"})
        assert model(clip_frames()).label_logits.shape == (2, 3)


# ---- heads that are new, towers that stand alone ----


@torch.no_grad()
def test_a_new_head_leaves_texts_behind(clip_folder, output, labels):
    conversion = convert(clip_folder, output, ConversionOptions(labels=labels, new_head=True))
    config = conversion.config
    assert (config.norm_layout, config.classifier_type) == ("clip", "linear")
    assert config.label_embedding_size == 768  # as in every model without label embeddings
    assert conversion.left_out["text_projection.weight"] == "a new head is not compared with labels"
    assert conversion.left_out["classifier.logit_scale"] == "replaced by a new head"
    names = {name for name in conversion.left_out if not name.startswith(("text_", "classifier."))}
    assert not names and not (output / "text").exists() and conversion.num_text_parameters == 0
    assert (conversion.comparison.model, conversion.comparison.output) == ("CLIPVisionModel", "CLS embedding")
    expected = CLIPVisionModel.from_pretrained(clip_folder).eval()
    still = still_clip(frames=8, height=SIDE, width=SIDE)
    assert_close(load(output, FALModel)(still).pooler_output, expected(still[:, 0]).pooler_output)
    assert load(output)(still).logits.shape == (2, len(LABELS))


@pytest.mark.parametrize("prefix", ["", "vision_model."])
@pytest.mark.parametrize("model_class", [CLIPVisionModel, CLIPVisionModelWithProjection])
@torch.no_grad()
def test_a_vision_tower_by_itself_converts_like_an_image_model_without_a_head(
    clip_folder, tmp_path, output, model_class, prefix
):
    expected = model_class.from_pretrained(clip_folder).eval()
    expected.save_pretrained(tmp_path / "vision")

    def rename(tensors):
        bare = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
        return {name if "projection" in name else prefix + name: tensor for name, tensor in bare.items()}

    change_tensors(tmp_path / "vision", rename)
    conversion = convert(tmp_path / "vision", output)
    reason = "there are no texts whose embeddings an image's is compared with"
    has_projection = model_class is CLIPVisionModelWithProjection
    assert conversion.left_out == ({"visual_projection.weight": reason} if has_projection else {})
    assert conversion.config.classifier_type == "linear" and conversion.config.num_labels == 2
    still = still_clip(frames=8, height=SIDE, width=SIDE)
    tower = expected.vision_model if has_projection else expected
    assert_close(load(output, FALModel)(still).pooler_output, tower(still[:, 0]).pooler_output)


@pytest.mark.parametrize("options", [{"new_head": True}, {}])
def test_a_prompt_without_texts_is_refused(clip_folder, vit_folder, output, options):
    source = clip_folder if options else vit_folder
    with pytest.raises(ConversionError, match=r"prompt: expected a source whose labels are texts"):
        convert(source, output, ConversionOptions(prompt="{}", **options))


# ---- preprocessing ----


def test_pixels_are_those_of_the_source_or_openai_s(tmp_path, labels):
    write_tiny_clip(tmp_path / "clip")
    clip = clip_frames(frames=2)[0].sub(-3).mul(40).clamp(0, 255).to(torch.uint8)
    clip = torch.nn.functional.pad(clip, (9, 2))  # wider than high
    expected = CLIPImageProcessor.from_pretrained(tmp_path / "clip")(list(clip), return_tensors="pt")["pixel_values"]
    settings = json.loads((tmp_path / "clip" / "preprocessor_config.json").read_text())
    old = settings | {"size": SIDE, "crop_size": SIDE}
    for name, content in {"stored": settings, "old": old, "assumed": None}.items():
        path = tmp_path / "clip" / "preprocessor_config.json"
        path.unlink() if content is None else path.write_text(json.dumps(content))
        conversion = convert(tmp_path / "clip", tmp_path / name, ConversionOptions(labels=labels))
        origin = "assumed: clip" if content is None else "preprocessor_config.json"
        assert conversion.source.preprocessing_origin == origin
        processor = FALVideoProcessor.from_pretrained(tmp_path / name)
        assert list(processor.image_mean) == [0.48145466, 0.4578275, 0.40821073] and processor.resample == 3
        pixels = processor(clip, num_frames=2, return_tensors="pt")["pixel_values"][0]
        assert (pixels - expected).abs().max() < 0.02


# ---- from FAL to FAL ----


@pytest.fixture
def open_folder(tmp_path) -> Path:
    """A tiny FAL that takes any labels, with its text tower."""
    return write_open_checkpoint(tmp_path / "open", LABELS)


@torch.no_grad()
def test_a_fal_model_keeps_its_labels_and_its_texts(open_folder, output):
    conversion = convert(open_folder, output)
    expected, model = load(open_folder), load(output)
    clip = torch.randn(1, 4, 3, 16, 16)
    assert_close(model(clip).logits, expected(clip).logits)
    fields = [config.to_diff_dict() | {"image_size": SIDE} for config in (model.config, expected.config)]
    assert fields[0] == fields[1]
    assert not conversion.new and not conversion.left_out and conversion.comparison.output == "logits"
    assert torch.equal(model.text_encoder(["other"]), expected.text_encoder(["other"]))
    half = convert(open_folder, output.with_name("half"), ConversionOptions(dtype="bfloat16")).output
    assert load_file(half / "text" / "model.safetensors")["text_projection.weight"].dtype == torch.bfloat16


@torch.no_grad()
def test_a_fal_model_takes_other_labels_by_its_texts(open_folder, tmp_path, output):
    (tmp_path / "other.txt").write_text("rain\nsnow")
    options = ConversionOptions(labels=tmp_path / "other.txt", prompt="{} falls")
    conversion = convert(open_folder, output, options)
    assert conversion.left_out == {LABEL_TABLE: "replaced by other labels'"}
    expected, model = load(open_folder), load(output)
    expected.set_labels(["rain", "snow"], prompt="{} falls")
    clip = torch.randn(1, 4, 3, 16, 16)
    assert_close(model(clip).logits, expected(clip).logits)
    assert model.config.id2label == {0: "rain", 1: "snow"} and model.config.label_prompt == "{} falls"


def test_a_fal_model_without_texts_keeps_its_labels_and_refuses_others(open_folder, tmp_path, output, labels):
    shutil.rmtree(open_folder / "text")
    conversion = convert(open_folder, output)
    assert conversion.comparison.difference < 1e-5 and not (output / "text").exists()
    assert "set_labels" not in (output / "README.md").read_text()
    with pytest.raises(ConversionError, match=r"expected a text tower for other labels.* or their --label-embeddings"):
        convert(open_folder, tmp_path / "other", ConversionOptions(labels=labels))
    save_file({"embeddings": torch.randn(4, PROJECTION_DIM)}, tmp_path / "rows.safetensors")
    options = ConversionOptions(labels=labels, label_embeddings=tmp_path / "rows.safetensors")
    assert convert(open_folder, tmp_path / "given", options).comparison.difference < 1e-5


def test_a_fal_model_s_new_head_has_no_label_embeddings(open_folder, output):
    conversion = convert(open_folder, output, ConversionOptions(new_head=True))
    assert conversion.left_out[LABEL_TABLE] == "a new head is not compared with labels"
    assert conversion.config.classifier_type == "linear" and not (output / "text").exists()


def test_label_tokens_of_given_embeddings_take_labels_of_their_kind_of_hierarchy(tmp_path, labels, hierarchy):
    tokens = {"label_attention": "divided", "label_integration_layer": 1}
    folder = write_open_checkpoint(tmp_path / "open", LABELS, **tokens)
    conversion = convert(folder, tmp_path / "other", ConversionOptions(labels=labels, prompt="{}!"))
    assert conversion.comparison.output == "logits" and conversion.comparison.difference < 1e-5
    with pytest.raises(ConversionError, match=r"expected no hierarchy above the labels, .* got one"):
        convert(folder, tmp_path / "above", ConversionOptions(hierarchy=hierarchy))
    with pytest.raises(ConversionError, match="without new_head"):
        convert(folder, tmp_path / "new", ConversionOptions(new_head=True))


def test_the_base_of_an_open_model_gets_a_linear_head(open_folder, tmp_path, output):
    load(open_folder).fal.save_pretrained(tmp_path / "base")
    conversion = convert(tmp_path / "base", output)
    assert conversion.config.classifier_type == "linear" and "classifier.weight" in conversion.new
    assert conversion.left_out[LABEL_TABLE] == "a new head is not compared with labels"
    tokens = {"label_attention": "divided", "label_integration_layer": 1}
    folder = write_open_checkpoint(tmp_path / "tokens", LABELS, **tokens)
    load(folder).fal.save_pretrained(tmp_path / "base")
    conversion = convert(tmp_path / "base", tmp_path / "with_tokens")
    assert conversion.config.label_embedding_size == PROJECTION_DIM and LABEL_TABLE in conversion.used


def test_a_damaged_text_tower_of_a_fal_model_is_refused(open_folder, output):
    (open_folder / "text" / "tokenizer.json").write_text("{")
    with pytest.raises(ConversionError, match=r"text: expected the tokenizer of a CLIP, got") as error:
        convert(open_folder, output)
    assert "\n" not in str(error.value) and not output.exists()


# ---- the folder ----


def test_the_card_says_what_is_compared_and_how_to_give_other_labels(clip_folder, output, labels, warm_python):
    convert(clip_folder, output, ConversionOptions(labels=labels, num_frames=2))
    card = (output / "README.md").read_text()
    assert "| scores | similarity to 4 label embeddings of size 12, prompt `a video of {}` |" in card
    assert "4 labels of videos apart, or any others that it is given." in card
    (snippet,) = [text for text in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "set_labels" in text]
    from media_files import moving_frames, write_video

    write_video(output.parent / "video.mp4", moving_frames(5))
    process = warm_python.run(["-c", snippet], cwd=output.parent)
    assert process.returncode == 0, process.stderr
    assert re.match(r"\{'a dog runs': 0\.\d+, 'a car turns': 0\.\d+\}", process.stdout)


def test_a_model_that_takes_no_texts_has_no_such_snippet(output, vit_folder):
    card = convert(vit_folder, output).output / "README.md"
    assert "set_labels" not in card.read_text() and "| scores |" not in card.read_text()


def test_a_clip_comes_from_the_hub_and_goes_there_with_its_texts_and_into_another_folder(
    clip_folder, tmp_path, labels, warm_python, shared_hub
):
    shutil.copytree(clip_folder, tmp_path / "published")
    (tmp_path / "published" / "tokenizer.json").unlink()  # what is left is in vocab.json and merges.txt
    (tmp_path / "published" / "open_clip_model.safetensors").write_text("of OpenCLIP")
    push = "from fal_hf.hub import push_folder; push_folder('published', 'someone/published')"
    process = warm_python.run(["-c", push], cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    command = ["fal", "convert", "someone/published", "--labels", labels, "--output", "fal"]
    process = warm_python.run([*command, "--push-to-hub", "someone/clip"], cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert not any("open_clip" in request.path for request in shared_hub.requests if "resolve" in request.path)
    files = shared_hub.repositories["someone/clip"].refs["main"].files
    assert {"text/model.safetensors", "text/config.json", "text/tokenizer.json"} <= files.keys()
    for name in ("model.safetensors", "tokenizer.json"):
        assert files[f"text/{name}"].content == (tmp_path / "fal" / "text" / name).read_bytes()
    (tmp_path / "other.txt").write_text("rain\nsnow")
    command = ["fal", "convert", "someone/clip", "--labels", "other.txt", "--output", "again"]
    process = warm_python.run(command, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    encoder = TextEncoder.from_pretrained(tmp_path / "again")
    table = load_file(tmp_path / "again" / "model.safetensors")[LABEL_TABLE]
    assert_close(table, encoder(["a video of rain", "a video of snow"]))


def test_a_model_that_is_none_of_texts_is_as_before(tmp_path, output):
    tiny_model().save_pretrained(tmp_path / "fal")
    conversion = convert(tmp_path / "fal", output)
    assert not {"scores", "text tower"} & conversion.summary().keys()
