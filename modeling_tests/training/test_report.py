"""The report of an evaluation: what it says, shows and writes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from fal_hf.training import EvaluationReport, LabeledClip, Prediction
from fal_hf.training.report import CELL_PIXELS, draw_confusion

FIGURES = {"clip_accuracy": 0.5, "accuracy": 0.75, "f1_macro": 0.7, "f1_weighted": 0.8, "majority_share": 0.6}


def make_report(tmp_path, **figures) -> EvaluationReport:
    results = [
        {"num_clips": count, "num_crops": 1, "num_videos": 2, **FIGURES, "accuracy_interval": (0.2, 0.9), **figures}
        for count in (1, 3)
    ]
    clips = [LabeledClip(path=f"{name}.mp4", labels=(name,), start_seconds=2.0) for name in ("cat", "dog")]
    return EvaluationReport(
        model="someone/pets",
        split="test",
        dataset_type="local",
        dataset_name="pets",
        labels=["cat", "dog"],
        results=results,
        per_class=[
            {"label": label, "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1} for label in ("cat", "dog")
        ],
        confusion=np.array([[1, 0], [1, 0]]),
        reliability=[{"count": 2, "confidence": 0.8, "accuracy": 0.5}],
        predictions=[Prediction(clip=clip, scores={"cat": 0.8, "dog": 0.2}, labels=("cat",)) for clip in clips],
        unreadable={("mouse.mp4", 0.0): "no video"},
        output_dir=tmp_path / "report",
    )


def test_a_report_is_read_as_a_table(tmp_path):
    lines = str(make_report(tmp_path, accuracy_interval_by_group=(0.1, 0.95))).splitlines()
    assert lines[1].split() == ["1", "1", "2", "0.500", "0.750", "0.200", "to", "0.900", "0.700", "0.800"]
    assert "with 3 clips, 95 % interval where whole groups are drawn: 0.100 to 0.950" in lines
    assert "majority share: 0.600" in lines
    assert lines[-1].split() == ["dog", "0.500", "1.000", "0.667", "1"]


def test_levels_of_a_hierarchy_are_rows_and_entries_of_a_card(tmp_path):
    levels = [{"level": level, "num_labels": 2, "num_videos": 5, "accuracy": 0.8, "f1_macro": 0.6} for level in (0, 1)]
    report = make_report(tmp_path, levels=levels)
    lines = [line.split() for line in str(report).splitlines()]
    place = lines.index(["level", "labels", "videos", "accuracy", "macro", "F1"])
    assert lines[place + 2] == ["1", "2", "5", "0.800", "0.600"]
    (model,) = yaml.safe_load(report.card_entries())["model-index"]
    metrics = {one["type"]: one["value"] for result in model["results"] for one in result["metrics"]}
    assert (metrics["accuracy_level_0"], metrics["f1_macro_level_1"]) == (0.8, 0.6)


def test_mistakes_are_the_videos_that_get_another_label(tmp_path):
    report = make_report(tmp_path)
    assert [one.clip.path for one in report.mistakes] == ["dog.mp4"]
    assert report.accuracy == 0.75


def test_a_report_is_written_as_files(tmp_path):
    report = make_report(tmp_path)
    report.write()
    rows = [json.loads(line) for line in (tmp_path / "report" / "predictions.jsonl").read_text().splitlines()]
    assert rows[1] == {
        "path": "dog.mp4",
        "start_seconds": 2.0,
        "labels": ["dog"],
        "predicted": ["cat"],
        "scores": {"cat": 0.8, "dog": 0.2},
    }
    (model,) = yaml.safe_load((tmp_path / "report" / "model_index.yaml").read_text())["model-index"]
    metrics = {one["type"]: one["value"] for result in model["results"] for one in result["metrics"]}
    assert "calibration" not in json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert metrics == {"clip_accuracy": 0.5, "accuracy": 0.75, "f1_macro": 0.7, "f1_weighted": 0.8}
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text())["unreadable"] == [
        {"path": "mouse.mp4", "reason": "no video"}
    ]


def test_names_of_any_bytes_are_kept_and_those_of_labels_written_in_any_locale(tmp_path):
    report = make_report(tmp_path)
    clip = LabeledClip(path="clip-\udcff.mp4", labels=("cat",))
    prediction = Prediction(clip=clip, scores={"cat": 1.0, "dog": 0.0}, labels=("cat",))
    replace(report, predictions=[prediction], unreadable={("\udcff.mp4", 0.0): "no video"}, dataset_name="é").write()
    row = json.loads((tmp_path / "report" / "predictions.jsonl").read_text(encoding="ascii"))
    evaluation = json.loads((tmp_path / "report" / "evaluation.json").read_text(encoding="ascii"))
    assert (row["path"], evaluation["unreadable"][0]["path"]) == ("clip-\udcff.mp4", "\udcff.mp4")
    assert "é" in (tmp_path / "report" / "model_index.yaml").read_text(encoding="utf-8")


def test_a_cell_of_the_confusion_matrix_is_the_darker_the_larger_its_share():
    image = np.asarray(draw_confusion(np.array([[3, 1], [0, 4]]), ["a", "b"]))
    corners = image[-2 * CELL_PIXELS :: CELL_PIXELS, -2 * CELL_PIXELS :: CELL_PIXELS, 0]  # red
    assert corners.tolist() == [[64, 191], [255, 0]]
