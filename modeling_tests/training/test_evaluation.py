"""The evaluation of a classifier on tiny clips: its figures, what it says of each video, what it writes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_clip import write_open_checkpoint
from tiny_fal import tiny_config, tiny_model
from video_classification_files import CLASSES, write_class_folders

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

from fal_hf import (
    AdaptivePatches,
    FALConfig,
    FALVideoClassifierForVideoClassification,
    FALVideoProcessor,
    VideoLabeler,
)
from fal_hf.export import ExportOptions, export_model
from fal_hf.labeling.views import Views
from fal_hf.training import DataArguments, EvaluationArguments, evaluate
from fal_hf.training.data import MULTI_LABEL


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    names = dict(enumerate(CLASSES))
    labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    tiny_model(tiny_config(num_labels=2, **labels)).save_pretrained(folder)
    crop = {"height": 16, "width": 16}
    FALVideoProcessor(num_frames=4, size={"shortest_edge": 16}, crop_size=crop).save_pretrained(folder)
    return folder


def run_evaluation(
    model: Path, output: Path, *, num_clips: list[int], num_crops: int = 1, split="test", options=None, **data
):
    evaluation = EvaluationArguments(
        model_name_or_path=str(model),
        output_dir=str(output),
        split=split,
        num_clips=num_clips,
        num_crops=num_crops,
        device="cpu",
        **options or {},
    )
    return evaluate(data=DataArguments(**data), evaluation=evaluation)


@pytest.mark.parametrize("runtime", ["torch-float32", "torch-int8"])
def test_an_export_is_evaluated_like_the_model_that_it_was_made_from(checkpoint, tmp_path, runtime):
    clips = write_class_folders(tmp_path / "clips", per_class=3)
    videos = tuple(str(path) for path in sorted(clips.glob("*/*.mp4")))
    options = ExportOptions(formats=("torch",), precisions=("float32", "int8"), check=videos, force=True)
    export_model(checkpoint, tmp_path / "export", options)
    chosen = {"num_clips": [2], "options": {"runtime": runtime}, "test_dir": str(clips)}
    found = run_evaluation(tmp_path / "export", tmp_path / "exported", **chosen)
    expected = run_evaluation(checkpoint, tmp_path / "own", num_clips=[2], test_dir=str(clips))
    for prediction, other in zip(found.predictions, expected.predictions, strict=True):
        assert prediction.scores == pytest.approx(other.scores, abs=0.05 if runtime == "torch-int8" else 1e-6)
    assert (found.predictions == expected.predictions) == (runtime == "torch-float32")
    chosen["options"]["calibrate"] = str(tmp_path / "calibrated")
    with pytest.raises(ValueError, match=r"--calibrate: expected a checkpoint, got .*export, which is an export"):
        run_evaluation(tmp_path / "export", tmp_path / "exported", **chosen)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_evaluation_agrees_with_the_labeler_and_writes_its_figures(checkpoint, tmp_path, split):
    clips = write_class_folders(tmp_path / "clips", per_class=3)
    (clips / "dark" / "text.mp4").write_text("no video")
    output, data = tmp_path / "figures", {f"{split}_dir": str(clips), "max_unreadable_share": 0.2}
    found = run_evaluation(checkpoint, output, split=split, num_clips=[3, 1], num_crops=3, **data)
    report = json.loads((output / "evaluation.json").read_text())
    assert found.to_dict() == {
        **report,
        "results": [{**row, "accuracy_interval": tuple(row["accuracy_interval"])} for row in report["results"]],
    }
    assert [(row["num_clips"], row["num_videos"]) for row in report["results"]] == [(1, 6), (3, 6)]
    assert report["results"][0]["majority_share"] == 0.5
    labeler = VideoLabeler.from_pretrained(checkpoint, views=Views(num_clips=3, num_crops=3), device="cpu")
    files = sorted(clips.glob("*/[0-9].mp4"))
    named = [labeler(file).labels[0].label == file.parent.name for file in files]
    assert report["results"][1]["accuracy"] == pytest.approx(np.mean(named))
    assert [one.is_correct for one in found.predictions] == named
    assert len(found.mistakes) == len(named) - sum(named)
    (unreadable,) = report["unreadable"]
    assert unreadable["path"].endswith("text.mp4") and unreadable["reason"]
    header, *rows = csv.reader((output / "confusion_matrix.csv").open())
    assert header[1:] == list(CLASSES) and sum(int(cell) for row in rows for cell in row[1:]) == 6
    assert Image.open(output / "confusion_matrix.png").size[0] > 128
    entries = yaml.safe_load((output / "model_index.yaml").read_text())["model-index"][0]["results"]
    assert {(entry["dataset"]["name"], entry["dataset"]["split"]) for entry in entries} == {("clips", split)}
    assert len((output / "per_class.csv").read_text().splitlines()) == 3


def test_the_calibrated_copy_labels_with_the_temperature_that_was_fitted(checkpoint, tmp_path):
    clips = write_class_folders(tmp_path / "clips", per_class=12)
    said = run_evaluation(checkpoint, tmp_path / "first", num_clips=[2], test_dir=str(clips)).predictions
    rows = []
    for number, one in enumerate(said):
        others = [name for name in CLASSES if name not in one.labels]
        rows.append({"path": one.clip.path, "label": others[0] if number % 3 == 0 else one.labels[0]})
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"num_clips": [2], "test_file": str(tmp_path / "test.jsonl")}
    options = {"calibrate": str(tmp_path / "calibrated")}
    found = run_evaluation(checkpoint, tmp_path / "second", options=options, **asked)
    assert found.calibration.folder == tmp_path / "calibrated" and found.calibration.num_videos == 24
    assert FALConfig.from_pretrained(checkpoint).temperature == 1
    view = {"views": Views(num_clips=2), "device": "cpu"}
    plain, calibrated = (VideoLabeler.from_pretrained(one, **view) for one in (checkpoint, tmp_path / "calibrated"))
    temperature = calibrated.model.config.temperature
    assert temperature == found.calibration.temperature != 1
    plain.model.config.temperature = temperature
    for one in found.predictions[:3]:
        labels = calibrated(one.clip.path).labels
        assert labels == plain(one.clip.path).labels and labels[0].label == one.labels[0]
        assert labels[0].score != pytest.approx(max(one.scores.values()), abs=1e-3)


@pytest.mark.parametrize(
    ("patches", "option"), [("adaptive_patches", {"share": 0.25}), ("static_patches", {"static_threshold": 2.0})]
)
def test_a_model_is_evaluated_with_fewer_tokens_as_the_labeler_labels(checkpoint, tmp_path, patches, option):
    if patches == "static_patches":
        config = FALConfig.from_pretrained(checkpoint, attention_type="joint_space_time")
        model = FALVideoClassifierForVideoClassification.from_pretrained(checkpoint, config=config)
        checkpoint = shutil.copytree(checkpoint, tmp_path / "joint")
        model.save_pretrained(checkpoint)
    clips = write_class_folders(tmp_path / "clips", per_class=2)
    asked = {patches: next(iter(option.values()))}
    found = run_evaluation(checkpoint, tmp_path / "figures", num_clips=[1], options=asked, test_dir=str(clips))
    options = {"views": Views(num_clips=1), "adaptive_patches": AdaptivePatches(**option), "device": "cpu"}
    labeler = VideoLabeler.from_pretrained(checkpoint, **options)
    for one in found.predictions:
        scores = {label.label: label.score for label in labeler(one.clip.path).labels}
        assert one.scores == pytest.approx(scores, abs=1e-5)


def test_labels_in_ones_own_words_are_evaluated(tmp_path):
    model = write_open_checkpoint(tmp_path / "model", ["a dog runs", "a car turns"])
    clips, file = write_class_folders(tmp_path / "clips", per_class=3), tmp_path / "labels.txt"
    file.write_text("dark\nbright\ngray\n")
    arguments = {"model_name_or_path": str(model), "num_clips": [1], "device": "cpu", "label_prompt": "it is {}"}
    found = [
        evaluate(
            data=DataArguments(test_dir=str(clips)),
            evaluation=EvaluationArguments(**arguments, labels=labels, output_dir=str(tmp_path / f"figures-{number}")),
        )
        for number, labels in enumerate((str(file), "dark, bright, gray"))
    ]
    assert found[0].labels == ["dark", "bright", "gray"] and found[0].results == found[1].results
    labeler = VideoLabeler.from_pretrained(model, labels=found[0].labels, prompt="it is {}", device="cpu")
    said = [labeler(one.clip.path).labels[0].label for one in found[0].predictions]
    assert [one.labels for one in found[0].predictions] == [(label,) for label in said]


def test_a_model_with_a_hierarchy_is_evaluated_level_by_level(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "model")
    config = json.loads((checkpoint / "config.json").read_text())
    config["label_hierarchy"] = {"dark": "gray"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    clips = write_class_folders(tmp_path / "clips", per_class=3)
    found = run_evaluation(tmp_path / "model", tmp_path / "figures", num_clips=[1, 2], test_dir=str(clips))
    for row in json.loads((tmp_path / "figures" / "evaluation.json").read_text())["results"]:
        general, particular = row["levels"]
        assert (general["num_labels"], general["num_videos"]) == (2, 6)  # bright and gray: as bright and dark
        assert (general["accuracy"], general["f1_macro"]) == (row["accuracy"], row["f1_macro"])
        assert (particular["num_labels"], particular["num_videos"], particular["accuracy"]) == (1, 3, 1.0)
    assert "accuracy_level_1" in (tmp_path / "figures" / "model_index.yaml").read_text()
    assert "macro F1" in str(found)


def test_several_labels_are_evaluated(tmp_path):
    names = {0: "bright", 1: "dark", 2: "first"}
    labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    model = tiny_model(tiny_config(num_labels=3, problem_type=MULTI_LABEL, **labels))
    model.save_pretrained(tmp_path / "model")
    crop = {"height": 16, "width": 16}
    FALVideoProcessor(num_frames=4, size={"shortest_edge": 16}, crop_size=crop).save_pretrained(tmp_path / "model")
    clips = write_class_folders(tmp_path / "clips", per_class=2)
    rows = [
        {"path": str(path), "labels": [path.parent.name] + ["first"] * (path.stem == "0")}
        for path in clips.glob("*/*")
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run_evaluation(tmp_path / "model", tmp_path, num_clips=[2], test_file=str(tmp_path / "test.jsonl"))
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert 0 <= report["results"][0]["mean_average_precision"] <= 1
    assert [row["support"] for row in report["per_class"]] == [2, 2, 2]
    assert not (tmp_path / "confusion_matrix.csv").exists() and found.confusion is None
    for one in found.predictions:
        assert set(one.labels) == {name for name, score in one.scores.items() if score >= 0.5}


def test_labels_that_the_model_does_not_know_are_refused(checkpoint, tmp_path):
    folder = write_class_folders(tmp_path / "clips", per_class=1)
    (folder / "dark").rename(folder / "night")
    with pytest.raises(ValueError, match="night: expected labels of the model, which are bright, dark"):
        run_evaluation(checkpoint, tmp_path, num_clips=[1], test_dir=str(folder))
    with pytest.raises(ValueError, match="expected clips of the split validation, there are only: test"):
        run_evaluation(checkpoint, tmp_path, num_clips=[1], split="validation", test_dir=str(folder))
