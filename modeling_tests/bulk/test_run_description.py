"""What the records of a run depend on."""

import json

import torch

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor, Timeline, VideoLabeler, Views
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


def test_a_hierarchy_of_the_checkpoint_is_that_of_the_run(tiny_checkpoint, tmp_path):
    model = FALVideoClassifierForVideoClassification.from_pretrained(tiny_checkpoint)
    model.config.label_hierarchy = {"a": "vowel"}
    processor = FALVideoProcessor.from_pretrained(tiny_checkpoint)
    carried = describe_run(VideoLabeler(model, processor), top_k=5)
    assert carried["hierarchy"] == {"a": "vowel"}
    overruled = describe_run(VideoLabeler(model, processor, hierarchy={"a": "x"}), top_k=5)
    assert overruled["hierarchy"] == {"a": "x"}
    assert {name for name in carried if carried[name] != overruled[name]} == {"hierarchy"}
