"""The figures of an evaluation, by evaluate and by scikit-learn, and the evaluation script on tiny clips."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_fal import tiny_config, tiny_model
from video_classification_files import CLASSES, EXAMPLES, write_class_folders

pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

import evaluate

sys.path.insert(0, str(EXAMPLES))

from surveillance_manifest import read_films

from fal_hf import FALVideoProcessor, VideoLabeler
from fal_hf.labeling.views import Views
from fal_hf.training import evaluation as script
from fal_hf.training import metrics
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL, check_leaks, read_manifest, split_clips

# A metric of `evaluate` that counts by itself, with the names and arguments of the Hub's scripts.
METRIC_SCRIPT = """
import datasets
import evaluate
import numpy as np


class Counted(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("int32")
        kind = datasets.Sequence(kind) if self.config_name == "multilabel" else kind
        features = datasets.Features({"predictions": kind, "references": kind})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references, average=None):
        predictions, references = np.array(predictions), np.array(references)
        if self.config_name == "multilabel":
            exact = (predictions == references).all(axis=1)
        else:
            exact = predictions == references
            labels = np.union1d(predictions, references)
            predictions, references = (values[:, None] == labels for values in (predictions, references))
        right = (predictions * references).sum(axis=0)
        precision = right / np.maximum(predictions.sum(axis=0), 1)
        recall = right / np.maximum(references.sum(axis=0), 1)
        f1 = 2 * right / np.maximum(predictions.sum(axis=0) + references.sum(axis=0), 1)
        weights = references.sum(axis=0) if average == "weighted" else np.ones(len(right))
        mean = {name: float((values * weights).sum() / weights.sum()) for name, values in
                {"precision": precision, "recall": recall, "f1": f1}.items()}
        return {"accuracy": float(exact.mean()), **mean}
"""


def random_set(problem_type: str, *, num_videos: int = 60, num_views: int = 3, num_labels: int = 7):
    """View logits that lean towards the labels, and the labels."""
    generator = torch.Generator().manual_seed(0)
    if problem_type == MULTI_LABEL:
        labels = (torch.rand(num_videos, num_labels, generator=generator) < 0.3).long()
        lean = labels * 2.0 - 1
    else:
        labels = torch.randint(num_labels, (num_videos,), generator=generator)
        lean = 1.5 * torch.nn.functional.one_hot(labels, num_labels)
    noise = torch.randn(num_videos, num_views, num_labels, generator=generator)
    return noise + lean[:, None], labels


@pytest.mark.parametrize("problem_type", [SINGLE_LABEL, MULTI_LABEL])
def test_evaluate_and_scikit_learn_give_the_same_figures(problem_type, tmp_path, monkeypatch):
    path = tmp_path / "counted.py"
    path.write_text(METRIC_SCRIPT)
    logits, labels = random_set(problem_type)
    monkeypatch.setattr(metrics, "load_metric", lambda name, config=None: None)
    by_scikit_learn = metrics.summarize(logits, labels, problem_type)
    used = []

    def load(name, config=None):
        used.append(name)
        return evaluate.load(str(path), config, cache_dir=str(tmp_path))

    monkeypatch.setattr(metrics, "load_metric", load)
    assert metrics.summarize(logits, labels, problem_type) == pytest.approx(by_scikit_learn)
    assert set(used) == {"accuracy", "precision", "recall", "f1"}


def test_videos_are_judged_by_the_mean_probability_of_their_views():
    sure, unsure = torch.tensor([4.0, 0.0]), torch.tensor([0.0, 0.1])
    logits = torch.stack([torch.stack([sure, unsure, unsure]), torch.stack([unsure, unsure, unsure])])
    figures = metrics.summarize(logits, torch.tensor([0, 1]), SINGLE_LABEL)
    assert figures["accuracy"] == 1.0
    assert figures["clip_accuracy"] == pytest.approx(4 / 6)


def test_the_fifth_best_counts_for_top_5():
    logits = -torch.arange(7.0).expand(7, 1, 7)
    figures = metrics.summarize(logits, torch.arange(7), SINGLE_LABEL)
    assert figures["top5_accuracy"] == pytest.approx(5 / 7)
    assert "top5_accuracy" not in metrics.summarize(logits[:5, :, :5], torch.arange(5), SINGLE_LABEL)


def test_mean_average_precision_leaves_out_labels_that_no_video_has():
    references = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    assert metrics.mean_average_precision(references + 0.1, references) == 1.0
    assert np.isnan(metrics.mean_average_precision(references + 0.1, 0 * references))


def test_the_interval_of_groups_is_wider_where_groups_are_right_or_wrong_together():
    is_correct = np.repeat([True, False, True, True, False, True, True, True], 20)
    alone = metrics.group_interval(is_correct, [str(index) for index in range(160)])
    together = metrics.group_interval(is_correct, [str(index // 20) for index in range(160)])
    low, high = metrics.wilson_interval(120, 160)
    assert alone == pytest.approx((low, high), abs=0.02)
    assert together[0] < low - 0.1 and together[1] > high + 0.05


def test_the_majority_share_and_the_table_of_the_labels():
    references, predictions = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert metrics.majority_share(references) == 0.75
    first, second, third = metrics.per_class_table(predictions, references, ["a", "b", "c"])
    assert first == {"label": "a", "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": 0.8, "support": 3}
    assert second["precision"] == 0.5 and third == {"label": "c", "precision": 0, "recall": 0, "f1": 0, "support": 0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    names = dict(enumerate(CLASSES))
    labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    tiny_model(tiny_config(num_labels=2, **labels)).save_pretrained(folder)
    crop = {"height": 16, "width": 16}
    FALVideoProcessor(num_frames=4, size={"shortest_edge": 16}, crop_size=crop).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_evaluation_agrees_with_the_labeler_and_writes_its_figures(checkpoint, tmp_path, capsys, split):
    clips = write_class_folders(tmp_path / "clips", per_class=3)
    (clips / "dark" / "text.mp4").write_text("no video")
    options = [f"--{split}_dir", str(clips), "--split", split, "--max_unreadable_share", "0.2"]
    options += ["--num_clips", "3", "1", "--num_crops", "3"]
    output = tmp_path / "figures"
    script.main(["--model_name_or_path", str(checkpoint), *options, "--device", "cpu", "--output_dir", str(output)])
    printed = capsys.readouterr().out
    report = json.loads((output / "evaluation.json").read_text())
    assert [(row["num_clips"], row["num_videos"]) for row in report["results"]] == [(1, 6), (3, 6)]
    assert report["results"][0]["majority_share"] == 0.5
    labeler = VideoLabeler.from_pretrained(checkpoint, views=Views(num_clips=3, num_crops=3), device="cpu")
    files = sorted(clips.glob("*/[0-9].mp4"))
    named = [labeler(file).labels[0].label == file.parent.name for file in files]
    assert report["results"][1]["accuracy"] == pytest.approx(np.mean(named))
    (unreadable,) = report["unreadable"]
    assert unreadable["path"].endswith("text.mp4") and "1 of 7 clips left out" in printed
    header, *rows = csv.reader((output / "confusion_matrix.csv").open())
    assert header[1:] == list(CLASSES) and sum(int(cell) for row in rows for cell in row[1:]) == 6
    assert Image.open(output / "confusion_matrix.png").size[0] > 128
    entries = yaml.safe_load((output / "model_index.yaml").read_text())["model-index"][0]["results"]
    assert {(entry["dataset"]["name"], entry["dataset"]["split"]) for entry in entries} == {("clips", split)}
    assert len((output / "per_class.csv").read_text().splitlines()) == 3


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
    options = ["--test_file", str(tmp_path / "test.jsonl"), "--num_clips", "2", "--output_dir", str(tmp_path)]
    script.main(["--model_name_or_path", str(tmp_path / "model"), *options, "--device", "cpu"])
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert 0 <= report["results"][0]["mean_average_precision"] <= 1
    assert [row["support"] for row in report["per_class"]] == [2, 2, 2]
    assert not (tmp_path / "confusion_matrix.csv").exists()


def test_labels_that_the_model_does_not_know_are_refused(checkpoint, tmp_path):
    folder = write_class_folders(tmp_path / "clips", per_class=1)
    (folder / "dark").rename(folder / "night")
    with pytest.raises(ValueError, match="night: expected labels of the model, which are bright, dark"):
        script.main(
            ["--model_name_or_path", str(checkpoint), "--test_dir", str(folder), "--output_dir", str(tmp_path)]
        )
    with pytest.raises(ValueError, match="expected clips of the split validation, there are only: test"):
        options = ["--split", "validation", "--output_dir", str(tmp_path)]
        script.main(["--model_name_or_path", str(checkpoint), "--test_dir", str(folder), *options])


def test_surveillance_clips_are_split_by_film(media, tmp_path):
    films = read_films(media / "surveillance" / "sources.txt")
    assert films["fi001"] == films["nofi003"] != films["fi005"]
    assert "nofi070" not in films  # of no film
    rows = ["path,label,group"]
    for path in sorted((media / "surveillance").glob("*/*.mp4")):
        rows.append(f"{path},{path.parent.name},{films.get(path.stem, 'no film')}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    splits = split_clips(read_manifest(tmp_path / "clips.csv"), shares={"test": 0.25, "validation": 0.15}, seed=42)
    check_leaks(splits)
    assert sum(map(len, splits.values())) == 300
    for part in splits.values():
        assert 0.4 < sum(clip.labels == ("fight",) for clip in part) / len(part) < 0.6
