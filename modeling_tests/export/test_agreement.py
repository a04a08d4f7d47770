"""How far a model is from the float32 model."""

import pytest
import torch

from fal_hf.export.agreement import Agreement

EXPECTED = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])


def test_the_best_labels_and_the_largest_difference_are_compared():
    scores = torch.tensor([[0.65, 0.2, 0.15], [0.36, 0.39, 0.25]])
    agreement = Agreement.between(scores, EXPECTED, None)
    assert (agreement.num_videos, agreement.num_equal) == (2, 1)
    assert agreement.largest_difference == pytest.approx(0.05, abs=1e-6)
    assert str(agreement) == "1 of 2 videos with the same labels, largest difference of a probability 0.05"


def test_where_several_labels_may_hold_those_above_a_half_are_compared():
    scores = torch.tensor([[0.55, 0.1, 0.2], [0.6, 0.1, 0.3]])
    agreement = Agreement.between(scores, EXPECTED, "multi_label_classification")
    assert agreement.num_equal == 1


@pytest.mark.parametrize(
    ("num_videos", "num_equal", "difference", "is_enough"),
    [
        (100, 99, 0.05, True),
        (100, 98, 0.0, False),
        (50, 49, 0.0, False),
        (50, 50, 0.0501, False),
        (1, 1, 0.0, True),
    ],
)
def test_enough_is_99_in_100_and_a_difference_of_5_in_100(num_videos, num_equal, difference, is_enough):
    agreement = Agreement(num_videos=num_videos, num_equal=num_equal, largest_difference=difference)
    assert agreement.is_enough == is_enough


def test_scores_that_are_no_numbers_are_never_enough():
    agreement = Agreement.between(EXPECTED * torch.nan, EXPECTED, None)
    assert agreement.largest_difference == 1.0 and not agreement.is_enough
