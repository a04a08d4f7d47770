"""The figures of videos, by evaluate and by scikit-learn, and their intervals."""

import numpy as np
import pytest
import torch

pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

import evaluate
from sklearn.metrics import average_precision_score, log_loss

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


# ---- what probabilities are worth


def random_scores(count: int, num_labels: int, *, several: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are more often right than not, and the labels; of one label a score is on the border of a bin."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, num_labels))
    if several:
        return 1 / (1 + np.exp(-logits)), (rng.random((count, num_labels)) < 0.3).astype(np.float32)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores[0], scores[1] = [0.2] * num_labels, [0.6, 0.4] + [0.0] * (num_labels - 2)
    return scores, np.where(rng.random(count) < 0.7, scores.argmax(axis=1), rng.integers(num_labels, size=count))


def naive_bins(scores: np.ndarray, references: np.ndarray) -> list[list[tuple[float, bool]]]:
    """For each bin the scores in it, each with whether it was right; written from the paper, one by one."""
    bins = [[] for _ in range(15)]
    for row, truth in zip(scores.tolist(), references.tolist(), strict=True):
        pairs = zip(row, truth, strict=True) if isinstance(truth, list) else [(max(row), row.index(max(row)) == truth)]
        for score, right in pairs:
            (number,) = [m for m in range(15) if m / 15 < score <= (m + 1) / 15] or [0]
            bins[number].append((score, bool(right)))
    return bins


@pytest.mark.parametrize("several", [False, True])
def test_the_calibration_error_equals_the_naive_one(several):
    scores, references = random_scores(301, 5, several=several)
    bins = naive_bins(scores, references)
    total = sum(map(len, bins))
    gaps = [abs(np.mean([right for _, right in one]) - np.mean([score for score, _ in one])) for one in bins if one]
    expected = sum(len(one) / total * gap for one, gap in zip(filter(None, bins), gaps, strict=True))
    assert metrics.calibration_error(scores, references) == pytest.approx(expected, abs=1e-12) and expected > 0.01
    for row, one in zip(metrics.reliability_table(scores, references), bins, strict=True):
        assert row["count"] == len(one)
        if one:
            means = np.mean(one, axis=0)
            assert (row["confidence"], row["accuracy"]) == pytest.approx(tuple(means))
        else:
            assert row["confidence"] is row["accuracy"] is None


def test_scores_that_are_right_as_often_as_they_say_have_no_calibration_error():
    scores = np.array([[0.75, 0.25]] * 4 + [[0.5, 0.5]] * 2 + [[0.0, 1.0]])
    assert metrics.calibration_error(scores, np.array([0, 0, 0, 1, 0, 1, 1])) == 0
    assert metrics.calibration_error(np.array([[0.0, 1.0]]), np.array([0])) == 1


@pytest.mark.parametrize("problem_type", [SINGLE_LABEL, MULTI_LABEL])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_the_likelihood_is_that_of_the_scores_of_videos(problem_type, temperature, monkeypatch):
    monkeypatch.setattr(metrics, "VIDEOS_AT_ONCE", 7)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(17, 3, 4, generator=generator)
    several = problem_type == MULTI_LABEL
    labels = torch.randint(2, (17, 4), generator=generator).float() if several else torch.arange(17) % 4
    scores = metrics.video_scores(logits / temperature, problem_type).double().numpy()
    if several:
        expected = np.mean([log_loss(*pair, labels=[0, 1]) for pair in zip(labels.numpy().T, scores.T, strict=True)])
    else:
        expected = log_loss(labels.numpy(), scores / scores.sum(axis=1, keepdims=True))
    found = metrics.negative_log_likelihood(logits, labels, problem_type, temperature=temperature)
    assert found == pytest.approx(expected, rel=1e-5)


def test_scores_of_nothing_are_a_finite_likelihood():
    logits = torch.tensor([[[300.0, -300.0]]])
    assert metrics.negative_log_likelihood(logits, torch.tensor([1]), SINGLE_LABEL) == 600
    assert metrics.negative_log_likelihood(logits, torch.tensor([[0.0, 1.0]]), MULTI_LABEL) == 300


def test_several_labels_have_an_average_precision_each_where_a_video_has_them():
    scores, references = random_scores(40, 3, several=True)
    references[:, 2] = 0
    names = ["a", "b", "c"]
    rows = metrics.per_class_table((scores >= 0.5).astype(int), references, names, scores)
    for number, row in enumerate(rows[:2]):
        expected = average_precision_score(references[:, number], scores[:, number])
        assert row["average_precision"] == pytest.approx(expected)
        one = metrics.calibration_error(scores[:, [number]], references[:, [number]])
        assert row["calibration_error"] == one > 0
    assert rows[2]["average_precision"] is None and rows[2]["support"] == 0
