"""From logits of several clips to one score a label."""

import pytest
import torch

from fal_hf.aggregation import label_probabilities, mean_probabilities

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5]])


def test_single_label_scores_are_the_mean_of_the_softmax():
    expected = (torch.softmax(LOGITS[0], 0) + torch.softmax(LOGITS[1], 0)) / 2
    torch.testing.assert_close(mean_probabilities(LOGITS), expected)
    assert mean_probabilities(LOGITS).sum() == pytest.approx(1.0)


def test_multi_label_scores_are_the_mean_of_the_sigmoid():
    expected = (torch.sigmoid(LOGITS[0]) + torch.sigmoid(LOGITS[1])) / 2
    torch.testing.assert_close(mean_probabilities(LOGITS, "multi_label_classification"), expected)


def test_the_mean_is_of_probabilities_and_not_of_logits():
    assert not torch.allclose(mean_probabilities(LOGITS), LOGITS.mean(0).softmax(0), atol=1e-3)


def test_low_precision_logits_give_float32_probabilities():
    probabilities = label_probabilities(LOGITS.to(torch.bfloat16))
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))


def test_a_regression_model_has_no_probabilities():
    with pytest.raises(ValueError, match="problem_type='regression'"):
        mean_probabilities(LOGITS, "regression")
