"""How far a model is from the float32 model that it was made from, on videos."""

from dataclasses import dataclass

import torch

from ..labeling.aggregation import MULTI_LABEL
from .options import LEAST_EQUAL, MOST_DIFFERENCE

# Of a label that may hold beside others.
LIKELY = 0.5


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """
    What the same videos come to with two models.

    Args:
        num_videos: How many there are.
        num_equal: How many have the same best label; where several labels may hold, the same labels above 0.5.
        largest_difference: Between the two models' probabilities of a label of a video, in [0, 1].
    """

    num_videos: int
    num_equal: int
    largest_difference: float

    @classmethod
    def between(cls, scores: torch.Tensor, expected: torch.Tensor, problem_type: str | None) -> "Agreement":
        """Of the probabilities of videos, `(videos, num_labels)`, by a model and by the float32 model."""
        if problem_type == MULTI_LABEL:
            is_equal = ((scores > LIKELY) == (expected > LIKELY)).all(dim=1)
        else:
            is_equal = scores.argmax(dim=1) == expected.argmax(dim=1)
        difference = (scores - expected).abs().max()
        return cls(
            num_videos=len(scores),
            num_equal=int(is_equal.sum()),
            largest_difference=float(difference) if torch.isfinite(scores).all() else 1.0,
        )

    @property
    def is_enough(self) -> bool:
        """Whether a model may stand for the float32 model."""
        return self.num_equal >= LEAST_EQUAL * self.num_videos and self.largest_difference <= MOST_DIFFERENCE

    def __str__(self) -> str:
        return (
            f"{self.num_equal} of {self.num_videos} videos with the same labels, "
            f"largest difference of a probability {self.largest_difference:.2g}"
        )


__all__ = ["Agreement"]
