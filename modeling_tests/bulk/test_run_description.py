"""What the records of a run depend on."""

import json

import torch

from fal_hf import (
    AdaptivePatches,
    FALVideoClassifierForVideoClassification,
    FALVideoProcessor,
    Timeline,
    VideoLabeler,
    Views,
)
from fal_hf.bulk.run_description import describe_run


def test_a_run_is_described_by_what_its_records_depend_on(tiny_checkpoint):
    described = describe_run(VideoLabeler.from_pretrained(tiny_checkpoint), top_k=5)
    json.dumps(described)
    same = VideoLabeler.from_pretrained(tiny_checkpoint, batch_size=3)
    assert describe_run(same, top_k=5) == described
    other = VideoLabeler.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        other.model.classifier.bias[0] += 1e-6
    changed = {
        "weights": describe_run(other, top_k=5),
        "top_k": describe_run(same, top_k=3),
        "dtype": describe_run(VideoLabeler.from_pretrained(tiny_checkpoint, dtype="bfloat16"), top_k=5),
        "views": describe_run(VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(num_crops=3)), top_k=5),
        "timeline": describe_run(
            VideoLabeler.from_pretrained(
                tiny_checkpoint, views=Views(windows=True), timeline=Timeline(threshold=0.25)
            ),
            top_k=5,
        ),
        "hierarchy": describe_run(VideoLabeler.from_pretrained(tiny_checkpoint, hierarchy={"a": "x"}), top_k=5),
    }
    for name, run in changed.items():
        assert run[name] != described[name]


def test_a_calibration_is_of_the_run(tiny_checkpoint):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint)
    plain = describe_run(labeler, top_k=5)
    assert "temperature" not in plain["config"]  # as in the journals of runs that did not know it
    labeler.model.config.temperature = 1.5
    assert describe_run(labeler, top_k=5) == {**plain, "config": {**plain["config"], "temperature": 1.5}}


def test_reuse_of_static_windows_is_of_the_run_where_it_is_used(tiny_checkpoint):
    def described(**views) -> dict:
        labeler = VideoLabeler.from_pretrained(tiny_checkpoint, views=Views(windows=True, **views))
        return describe_run(labeler, top_k=5)["views"]

    assert "reuse_static" not in described()  # as in the journals of runs that did not know it
    assert described(reuse_static=6.0) == {**described(), "reuse_static": 6.0} != described(reuse_static=7.0)


def test_adaptive_patches_are_of_the_run_where_they_are_asked_for(tiny_checkpoint):
    uniform = describe_run(VideoLabeler.from_pretrained(tiny_checkpoint), top_k=5)
    patches = AdaptivePatches(share=0.5)
    adaptive = describe_run(VideoLabeler.from_pretrained(tiny_checkpoint, adaptive_patches=patches), top_k=5)
    assert adaptive == {**uniform, "adaptive_patches": {"share": 0.5, "threshold": None, "static_threshold": None}}


def test_patches_that_the_model_was_given_before_are_of_the_run_too(tiny_checkpoint):
    labeler = VideoLabeler.from_pretrained(tiny_checkpoint)
    labeler.model.adapt_patches(AdaptivePatches(threshold=0.5))
    again = VideoLabeler(labeler.model, labeler.processor)
    assert describe_run(again, top_k=5)["adaptive_patches"] == {
        "share": None,
        "threshold": 0.5,
        "static_threshold": None,
    }
    labeler.model.adapt_patches(None)
    assert "adaptive_patches" not in describe_run(again, top_k=5)


def test_a_hierarchy_of_the_checkpoint_is_that_of_the_run(tiny_checkpoint, tmp_path):
    model = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    model.config.label_hierarchy = {"a": "vowel"}
    processor = FALVideoProcessor.from_pretrained(tiny_checkpoint)
    carried = describe_run(VideoLabeler(model, processor), top_k=5)
    assert carried["hierarchy"] == {"a": "vowel"}
    overruled = describe_run(VideoLabeler(model, processor, hierarchy={"a": "x"}), top_k=5)
    assert overruled["hierarchy"] == {"a": "x"}
    assert {name for name in carried if carried[name] != overruled[name]} == {"hierarchy"}


def test_given_labels_are_what_they_say_and_the_text_tower_not_how_it_was_rounded(open_checkpoint):
    def described(change=None, **options):
        labeler = VideoLabeler.from_pretrained(open_checkpoint, **{"labels": ["a", "b"], **options})
        if change is not None:
            with torch.no_grad():
                change(labeler.model)
        return describe_run(labeler, top_k=5)

    def round_otherwise(model):
        model.fal.label_embeddings.embeddings.weight += 1e-6

    def train_tower(model):
        model.text_encoder.model.text_projection.weight[0, 0] += 1e-6

    run = described()
    json.dumps(run)
    assert described(round_otherwise) == run
    for name, other in {
        "text_weights": described(train_tower),
        "weights": described(lambda model: model.classifier.logit_scale.add_(1e-3)),
        "config": described(labels=["b", "a"]),
        "hierarchy": described(hierarchy={"a": "x"}),
    }.items():
        assert other[name] != run[name]
    assert described(prompt="{}!")["config"] != run["config"] != described(multi_label=True)["config"]
    own = VideoLabeler.from_pretrained(open_checkpoint)
    before = describe_run(own, top_k=5)
    round_otherwise(own.model)  # of the file, as other weights are
    assert describe_run(own, top_k=5)["weights"] != before["weights"]
