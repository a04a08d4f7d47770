"""Training on features: they give what the model gives, are computed once, and what has changed is computed anew."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_run import RUNS, assert_same_weights, final_weights, losses
from tiny_clip import PROJECTION_DIM, write_open_checkpoint
from tiny_fal import random_clip, tiny_config, tiny_model
from video_classification_files import write_class_folders

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

from transformers import TrainingArguments

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor, VideoError, VideoLabeler
from fal_hf.training import ModelArguments
from fal_hf.training.clips import IGNORED, EvaluationClips, UnreadableClips, probe_clips
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL, read_class_folders
from fal_hf.training.features import EvaluationFeatures, FeatureClassifier, FeatureStore, TrainingFeatures
from fal_hf.training.recipe import ClassificationLoss, RecipeArguments, build_optimizer
from fal_hf.training.start import choose_trained_parameters

TOKENS = {"label_integration_layer": 1, "num_labels": 2, "label_hierarchy": {"LABEL_0": "x", "LABEL_1": "x"}}
MODELS = {
    "linear": {},
    "mlp": {"classifier_hidden_size": 6, "temperature": 1.7},
    "a CLS token a frame": {"attention_type": "space_only"},
    "similarity": {"classifier_type": "similarity", "label_embedding_size": 6},
    "adaptive patches": {"patch_layout": "adaptive"},
    "adaptive patches and tokens": {**TOKENS, "label_attention": "divided", "patch_layout": "adaptive"},
    "CLIP's norms": {"classifier_type": "similarity", "attention_type": "space_only", "norm_layout": "clip"},
    **{f"{kind} tokens": {**TOKENS, "label_attention": kind} for kind in ("label", "unified", "divided")},
    "tokens and similarity": {**TOKENS, "label_attention": "divided", "classifier_type": "similarity"},
}
PROCESSOR = FALVideoProcessor(num_frames=4, size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("clips"), per_class=8)


def make_store(folder: Path, model=None, *, num_clips: int = 2, processor=PROCESSOR, **training) -> FeatureStore:
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, **training)
    return FeatureStore(folder, model or tiny_model(), processor, arguments, num_clips=num_clips, num_crops=1)


def make_clips(folder: Path, tmp_path: Path, *, num_clips: int = 2) -> EvaluationClips:
    clips = read_class_folders(folder)
    infos = probe_clips(clips, num_threads=2)
    return EvaluationClips(
        clips,
        infos,
        PROCESSOR,
        num_clips=num_clips,
        label2id={"bright": 0, "dark": 1},
        problem_type=SINGLE_LABEL,
        unreadable=UnreadableClips(tmp_path / "unreadable.jsonl", num_clips=len(clips), max_share=0.5),
    )


def take_step(model: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor, tmp_path: Path) -> torch.Tensor:
    """A step as a run takes it; returns the loss."""
    training = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, learning_rate=0.1, optim="sgd")
    optimizer = build_optimizer(model.train(), training, RecipeArguments(layer_decay=0.5))
    whole = getattr(model, "whole", model)
    space = whole.config.label_space if whole.config.label_attention != "none" else None
    problem = MULTI_LABEL if labels.ndim == 2 else SINGLE_LABEL
    loss = ClassificationLoss(problem, label_space=space)(model(inputs), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("problem_type", [SINGLE_LABEL, MULTI_LABEL])
@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_a_step_on_features_is_a_step_on_the_pixels_with_a_frozen_backbone(fields, problem_type, tmp_path):
    model = tiny_model(**fields, problem_type=problem_type)
    choose_trained_parameters(model, ModelArguments(freeze="backbone"))
    store = make_store(tmp_path, deepcopy(model), num_clips=3)
    behind = FeatureClassifier(store.model, store.grid)
    pixel_values = random_clip(model.config, batch=6)
    features = store.compute({"pixel_values": pixel_values.unflatten(0, (2, 3))})
    assert features.shape == (2, *store.shape)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    if problem_type == MULTI_LABEL:
        labels = torch.nn.functional.one_hot(labels, model.config.num_labels).float()
    for _ in range(2):
        expected = take_step(model, pixel_values, labels, tmp_path)
        torch.testing.assert_close(take_step(behind, features.flatten(0, 1), labels, tmp_path), expected)
    start, weights = tiny_model(**fields).state_dict(), behind.whole.state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weights[name], weight, msg=lambda text, name=name: f"{name}: {text}")
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, start[name])}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if name.startswith("classifier.")} <= changed <= trained
    assert trained == {
        name.replace("label_embeddings.", "fal.label_embeddings.").replace("label_layers.", "fal.label_layers.")
        for name, parameter in behind.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize(
    "fields", [{"patch_layout": "adaptive"}, {"patch_layout": "static", "attention_type": "joint_space_time"}], ids=str
)
def test_features_of_clips_that_differ_in_their_tokens_are_refused(tmp_path, fields):
    with pytest.raises(ValueError, match="expected a share, for the same number of tokens in all clips"):
        make_store(tmp_path, tiny_model(**fields, patch_threshold=0.5))


def test_features_do_not_depend_on_labels(tmp_path):
    """Other labels, heads and label tokens: the same files; so a class may be added, and nothing is computed anew."""
    clip = read_class_folders(write_class_folders(tmp_path / "clips", per_class=1))[0]
    tokens = {"label_attention": "divided", "label_integration_layer": 1}
    models, paths = [], []
    for labels in (3, 4):
        names = {index: f"label {labels - index}" for index in range(labels)}
        model = tiny_model(num_labels=labels, id2label=names, problem_type=None, temperature=labels, **tokens)
        models.append(model)
        for name in ("embeddings", "layers"):
            getattr(model.fal, name).load_state_dict(getattr(models[0].fal, name).state_dict())
        paths.append(make_store(tmp_path, model).path(clip))
    assert paths[0] == paths[1]


def test_files_are_named_by_all_that_features_depend_on(tmp_path):
    folder = write_class_folders(tmp_path / "clips", per_class=1)
    clip, other = read_class_folders(folder)
    weights = tiny_model()
    weights.fal.layers[1].mlp.fc2.bias.data[0] += 1e-6
    flipped = FALVideoProcessor(**{**PROCESSOR.to_dict(), "do_flip_channel_order": True})
    stores = [
        make_store(tmp_path),
        make_store(tmp_path, weights),
        make_store(tmp_path, tiny_model(hidden_act="relu")),
        make_store(tmp_path, num_clips=3),
        make_store(tmp_path, processor=flipped),
        make_store(tmp_path, bf16=True),
    ]
    paths = [store.path(clip) for store in stores] + [stores[0].path(other)]
    assert len(set(paths)) == len(paths) and make_store(tmp_path).path(clip) == paths[0]
    shutil.copy(other.path, clip.path)
    assert stores[0].path(clip) not in paths


def test_an_epoch_takes_one_view_of_each_clip_and_all_views_have_their_turn(clips, tmp_path):
    videos = make_clips(clips, tmp_path, num_clips=3)
    store = make_store(tmp_path / "features", num_clips=3)
    trained, evaluated = TrainingFeatures(videos, store, seed=1), EvaluationFeatures(videos, store)
    assert len(trained) == len(evaluated) == 16
    expected = store.model.fal.forward_features(videos[5]["pixel_values"], cls_only=True)[0]
    torch.testing.assert_close(evaluated[5]["features"], expected.detach())
    views = [trained[epoch, 5]["features"] for epoch in range(20)]
    assert torch.equal(views[7], trained[7, 5]["features"]) and views[7].shape == (1, 16)
    drawn = {int((evaluated[5]["features"] == view).all(dim=(1, 2)).nonzero()[0]) for view in views}
    assert drawn == {0, 1, 2} and trained[0, 5]["labels"] == videos.labels[5]


def test_a_clip_that_proves_unreadable_is_left_out(clips, tmp_path, monkeypatch):
    videos = make_clips(clips, tmp_path)
    whole = videos.open

    def fail(index):
        if index == 3:
            raise VideoError("3.mp4", "cut off")
        return whole(index)

    monkeypatch.setattr(videos, "open", fail)
    features = EvaluationFeatures(videos, make_store(tmp_path / "features"))
    assert features[3]["labels"] == IGNORED and features[3]["features"].shape == features[4]["features"].shape
    assert features[4]["labels"] == videos.labels[4] and len(videos.unreadable.reasons()) == 1
    monkeypatch.undo()
    mended = EvaluationFeatures(videos, make_store(tmp_path / "features"))
    assert mended[3]["labels"] == videos.labels[3] and mended[3]["features"].abs().sum() > 0


# ---- runs ----


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tiny_model(tiny_config(drop_path_rate=0.2), std=0.02).save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


@pytest.fixture
def train(start, clips, tmp_path):
    """Runs a script on features and returns its output folder."""

    def run(script: str, name: str, *options: str) -> Path:
        output = tmp_path / name
        usual = "--freeze features --eval_num_clips 2 --train_val_split 0.25 --per_device_train_batch_size 3"
        common = "--learning_rate 1e-2 --logging_steps 1 --use_cpu --report_to none --disable_tqdm true"
        source = ["--model_name_or_path", str(start), "--train_dir", str(clips), "--output_dir", str(output)]
        RUNS[script]([*source, *usual.split(), *common.split(), *options])
        return output

    return run


@pytest.fixture
def read(monkeypatch) -> list[int]:
    """The clips that are read to compute features."""
    whole, found = EvaluationClips.__getitem__, []

    def note(self, index):
        found.append(index)
        return whole(self, index)

    monkeypatch.setattr(EvaluationClips, "__getitem__", note)
    return found


KEEPING = "--num_train_epochs=2 --ema_decay=0.5 --save_strategy=epoch --eval_strategy=epoch --load_best_model_at_end"
HEADS = {
    "linear": (),
    "tokens": ("--label_attention=divided", "--label_integration_layer=1"),
}


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_both_scripts_train_the_same_on_features(train, start, options):
    outputs = [train(script, script, *KEEPING.split(), *options) for script in RUNS]
    assert losses(outputs[0]) == pytest.approx(losses(outputs[1]), rel=1e-4) and len(losses(outputs[0])) == 8
    assert_same_weights(*outputs, tolerance=1e-5)
    before, after = load_file(start / "model.safetensors"), final_weights(outputs[0])
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    checkpoint = load_file(outputs[0] / "checkpoint-8" / "model.safetensors")
    parts = {"classifier", "label_head", "label_layers", "label_embeddings"} if options else {"classifier"}
    assert {name.partition(".")[0] for name in checkpoint} == parts


@pytest.mark.parametrize("script", RUNS)
def test_a_run_on_features_learns_and_labels_videos(train, clips, script):
    output = train(script, "run", "--max_steps=40", "--label_smoothing_factor=0.1", "--class_weights")
    results = json.loads((output / "all_results.json").read_text())
    assert results["validation_accuracy"] == 1.0 and results["validation_unreadable"] == 0
    labeler = VideoLabeler.from_pretrained(output / "model")
    assert labeler(clips / "dark" / "0.mp4").labels[0].label == "dark"


@pytest.mark.parametrize("script", RUNS)
def test_features_are_computed_once_and_a_changed_clip_anew(train, read, start, clips, tmp_path, script):
    shutil.copytree(clips, tmp_path / "own")
    options = ["--max_steps=2", "--train_dir", str(tmp_path / "own")]
    first = train(script, "run", *options)
    weights = final_weights(first)
    assert len(read) == 16 and len(list((first / "features").iterdir())) == 16
    read.clear()
    train(script, "run", *options)
    assert read == [] and all(torch.equal(one, weights[name]) for name, one in final_weights(first).items())
    shutil.copy(tmp_path / "own" / "bright" / "1.mp4", tmp_path / "own" / "dark" / "0.mp4")
    train(script, "run", *options)
    assert len(read) == 1
    read.clear()
    model = FALVideoClassifierForVideoClassification.from_pretrained(start)
    model.fal.layers[0].mlp.fc1.bias.data.add_(0.1)
    model.save_pretrained(tmp_path / "other")
    PROCESSOR.save_pretrained(tmp_path / "other")
    train(script, "run", *options, "--model_name_or_path", str(tmp_path / "other"))
    assert len(read) == 16


def test_an_interrupted_run_goes_on_with_the_features_it_has(train, read, monkeypatch):
    compute, calls = FeatureStore.compute, []

    def killed_in_the_second_batch(self, batch):
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(self, batch)

    options = ["--max_steps=2", "--per_device_eval_batch_size=4"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FeatureStore, "compute", killed_in_the_second_batch)
        train("trainer", "killed", *options)
    read.clear()
    output = train("trainer", "killed", *options)
    assert len(read) == 12
    assert_same_weights(train("trainer", "unbroken", *options), output)


@pytest.mark.parametrize("script", RUNS)
def test_a_resumed_run_on_features_ends_as_an_unbroken_one(train, script):
    options = "--max_steps=6 --save_strategy=steps --save_steps=2 --ema_decay=0.5 --dataloader_num_workers=1"
    unbroken = train(script, "unbroken", *options.split())
    checkpoint = str(unbroken / "checkpoint-2")
    resumed = train(script, "resumed", *options.split(), "--resume_from_checkpoint", checkpoint)
    assert losses(unbroken) == losses(resumed)
    assert_same_weights(unbroken, resumed)


@pytest.mark.parametrize("script", RUNS)
def test_bfloat16_features(train, script):
    outputs = whole, half = [train(script, name, "--max_steps=2", f"--bf16={name}") for name in ("false", "true")]
    dtypes = [load_file(next((output / "features").iterdir()))["features"].dtype for output in outputs]
    assert dtypes == [torch.float32, torch.bfloat16]
    assert losses(half) == pytest.approx(losses(whole), rel=0.01) and losses(half) != losses(whole)


@pytest.mark.parametrize("script", RUNS)
def test_a_model_that_takes_any_labels_learns_some_from_features_and_still_takes_any(train, tmp_path, script):
    start = write_open_checkpoint(tmp_path / "open", ["x", "y", "z"])
    output = train(script, "run", "--max_steps=10", "--ema_decay=0.5", "--model_name_or_path", str(start))
    model = FALVideoClassifierForVideoClassification.from_pretrained(output / "model")
    assert model.config.id2label == {0: "bright", 1: "dark"}
    before, after = load_file(start / "model.safetensors"), final_weights(output)
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    given = "fal.label_embeddings.embeddings.weight"
    assert changed == {"classifier.projection.weight", "classifier.logit_scale", given}
    model.set_labels(["one", "two", "three"])
    assert model(random_clip(model.config)).logits.shape == (2, 3)
    assert after[given].shape == (2, PROJECTION_DIM)
