"""What labels share with those above them: lifted values, and losses of levels against naive ones."""

import pytest
import torch
from torch.nn import functional as F

from fal_hf.model.label_space import LabelSpace
from fal_hf.model.label_tree import FALLabelTree

LABELS = ("left", "right", "wide", "still", "pan")
# Ragged: one, two and three levels above; a parent that is a label itself, others that are not.
HIERARCHY = {"left": "pan", "right": "pan", "pan": "turn", "turn": "movement", "wide": "zoom", "zoom": "movement"}
SPACE = LabelSpace.of(LABELS, HIERARCHY)
TREE = FALLabelTree(SPACE)


def is_below(label: str, above: str) -> bool:
    return label == above or (label in HIERARCHY and is_below(HIERARCHY[label], above))


def naive_lift(values: torch.Tensor, how) -> torch.Tensor:
    columns = [
        [value for label, value in zip(LABELS, values.unbind(1), strict=True) if is_below(label, name)]
        for name in SPACE.names
    ]
    return torch.stack([how(torch.stack(column, dim=1)) for column in columns], dim=1)


def random_values(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_what_stands_above_gets_the_largest_or_the_sum_of_all_below():
    values = random_values(3, len(LABELS))
    torch.testing.assert_close(TREE.lift(values, "amax"), naive_lift(values, lambda column: column.amax(dim=1)))
    torch.testing.assert_close(TREE.lift(values, "sum"), naive_lift(values, lambda column: column.sum(dim=1)))


def test_without_a_hierarchy_values_stay_as_they_are():
    values = random_values(3, len(LABELS))
    tree = FALLabelTree(LabelSpace.of(LABELS))
    assert torch.equal(tree.lift(values, "amax"), values) and torch.equal(tree.lift(values, "sum"), values)


@pytest.mark.parametrize("num_items", [None, 7])
def test_the_loss_of_shares_is_the_mean_of_the_levels_cross_entropies(num_items):
    label_logits, shares = random_values(4, len(SPACE.names)), random_values(4, len(LABELS)).softmax(dim=1)
    targets = TREE.lift(shares, "sum")
    by_level = []
    for level in range(4):
        columns = [number for number, each in enumerate(SPACE.levels) if each == level]
        total = F.cross_entropy(label_logits[:, columns], targets[:, columns], reduction="sum")
        by_level.append(total / (num_items or 4))
    torch.testing.assert_close(TREE.level_loss(label_logits, targets, num_items), torch.stack(by_level).mean())


def test_a_level_on_which_nothing_is_true_adds_neither_a_loss_nor_a_gradient():
    label_logits = random_values(1, len(SPACE.names)).requires_grad_()
    still = TREE.lift(F.one_hot(torch.tensor([3]), len(LABELS)).float(), "sum")
    loss = TREE.level_loss(label_logits, still)
    loss.backward()
    general = [number for number, level in enumerate(SPACE.levels) if level == 0]
    expected = F.cross_entropy(label_logits[:, general], torch.tensor([general.index(3)])) / 4
    torch.testing.assert_close(loss, expected)
    assert label_logits.grad.isfinite().all()
    assert label_logits.grad.nonzero()[:, 1].tolist() == general
