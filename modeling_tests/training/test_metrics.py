"""The figures of videos, by evaluate and by scikit-learn, and their intervals."""

import numpy as np
import pytest
import torch

pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

import evaluate

from fal_hf.model.label_space import LabelSpace
from fal_hf.training import metrics
from fal_hf.training.data import MULTI_LABEL, SINGLE_LABEL
from fal_hf.training.metrics import summarize_levels

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


# ---- levels of a hierarchy ----

SPACE = LabelSpace.of(("left", "right", "still", "pan"), {"left": "pan", "right": "pan", "pan": "movement"})


def test_levels_add_up_the_scores_of_one_label():
    # left, right, still, pan: together the movements outweigh what is best alone.
    scores = torch.tensor([[0.3, 0.3, 0.4, 0.0], [0.1, 0.2, 0.7, 0.0], [0.2, 0.1, 0.3, 0.4]])
    general, middle, particular = summarize_levels(scores, torch.tensor([0, 2, 3]), SPACE, SINGLE_LABEL)
    assert general == {"level": 0, "num_labels": 2, "num_videos": 3, "accuracy": 1.0, "f1_macro": 1.0}
    assert middle == {"level": 1, "num_labels": 1, "num_videos": 2, "accuracy": 1.0, "f1_macro": 1.0}
    assert particular == {"level": 2, "num_labels": 2, "num_videos": 1, "accuracy": 1.0, "f1_macro": 1.0}
    (wrong,) = (
        row for row in summarize_levels(scores, torch.tensor([1, 0, 2]), SPACE, SINGLE_LABEL) if row["level"] == 2
    )
    assert (wrong["num_videos"], wrong["accuracy"], wrong["f1_macro"]) == (2, 0.0, 0.0)


def test_levels_take_the_largest_score_of_several_labels():
    scores = torch.tensor([[0.6, 0.1, 0.6, 0.2], [0.1, 0.4, 0.2, 0.4]])
    labels = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    general, middle, particular = summarize_levels(scores, labels, SPACE, MULTI_LABEL)
    assert (general["num_videos"], general["accuracy"]) == (2, 0.5)  # 0.4 is below the threshold
    assert (middle["num_videos"], middle["accuracy"]) == (2, 0.5)
    assert middle["f1_macro"] == pytest.approx(2 / 3)
    assert (particular["num_videos"], particular["accuracy"]) == (2, 0.5)
    assert [row["level"] for row in summarize_levels(scores, labels * 0, SPACE, MULTI_LABEL)] == []
