"""From the logits of several views of a video to one score for each label."""

import torch


def label_probabilities(logits: torch.Tensor, problem_type: str | None = None) -> torch.Tensor:
    """
    Probabilities of the labels of each view.

    Args:
        logits: `(views, num_labels)`, any floating dtype.
        problem_type: `"multi_label_classification"`: labels are independent (sigmoid); else one label is right
            (softmax).

    Returns:
        `(views, num_labels)` float32 in [0, 1].

    Raises:
        ValueError: for a regression model, whose outputs are no probabilities.
    """
    if problem_type == "regression":
        raise ValueError("expected a model that classifies, got one with problem_type='regression'")
    logits = logits.float()
    return logits.sigmoid() if problem_type == "multi_label_classification" else logits.softmax(dim=-1)


def mean_probabilities(logits: torch.Tensor, problem_type: str | None = None) -> torch.Tensor:
    """
    The score of each label for a video: the mean of its views' probabilities (paper, section 4.13).

    Args:
        logits: `(views, num_labels)`, any floating dtype.
        problem_type: As for [`label_probabilities`].

    Returns:
        `(num_labels,)` float32 in [0, 1].
    """
    return label_probabilities(logits, problem_type).mean(dim=0)
