"""Temperature scaling: one number with which probabilities are right as often as they say (Guo et al., 2017)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from .metrics import calibration_error, negative_log_likelihood, video_scores

# Between them a temperature is looked for: beyond, the videos are too few, too easy, or say nothing of the labels.
LEAST, MOST = 0.05, 20.0
# Temperatures that are tried at first, at equal ratios.
NUM_TRIED = 41


@dataclass(frozen=True, kw_only=True)
class Fit:
    """
    How far probabilities can be trusted.

    Args:
        calibration_error: The expected calibration error, in [0, 1].
        negative_log_likelihood: The mean over videos, in nats.
    """

    calibration_error: float
    negative_log_likelihood: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """
    A temperature, and what it is good for.

    Args:
        temperature: That of the calibrated model, what its logits are divided by.
        num_videos: How many videos it was fitted on.
        before: Of the model as it was.
        after: By cross-fitting: each half of the videos with the temperature of the other half, so that no video is
            judged by a temperature that was fitted on it.
        folder: Where the calibrated model is.
    """

    temperature: float
    num_videos: int
    before: Fit
    after: Fit
    folder: Path

    def to_dict(self) -> dict:
        """For JSON."""
        return {**asdict(self), "folder": str(self.folder)}

    def __str__(self) -> str:
        lines = [f"calibration on {self.num_videos} videos: temperature {self.temperature:.4g}"]
        lines.append(f"{'':>24}  before  after")
        for name in asdict(self.before):
            before, after = getattr(self.before, name), getattr(self.after, name)
            lines.append(f"{name.replace('_', ' '):>24}  {before:>6.3f}  {after:>5.3f}")
        lines.append("after: each half of the videos with a temperature that was fitted on the other half")
        return "\n".join(lines)


def fit_temperature(view_logits: torch.Tensor, labels: torch.Tensor, problem_type: str) -> float:
    """
    What logits are to be divided by for the largest likelihood of the videos' labels.

    Args:
        view_logits: (N, views, num_labels).
        labels: (N,) class indices, or (N, num_labels) of 0 and 1.
        problem_type: Whether a video has one label.

    Raises:
        ValueError: there is none between `LEAST` and `MOST`: all videos are right, say, and the more so the better.
    """

    def loss(exponent: float) -> float:
        return negative_log_likelihood(view_logits, labels, problem_type, temperature=math.exp(exponent))

    tried = np.linspace(math.log(LEAST), math.log(MOST), NUM_TRIED)
    best = int(np.argmin([loss(exponent) for exponent in tried]))
    if best in (0, NUM_TRIED - 1):
        reason = "they are named all too well" if best == 0 else "their scores tell nothing of their labels"
        raise ValueError(
            f"expected videos that tell a temperature between {LEAST:g} and {MOST:g}, got {len(labels)} that do not: "
            f"{reason}; take more videos, which the model was not trained on"
        )
    bounds = tried[best - 1], tried[best + 1]
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)  # pyright: ignore[reportAttributeAccessIssue]  # scipy has no hints


def judge(view_logits: torch.Tensor, labels: torch.Tensor, problem_type: str) -> Fit:
    """How far the probabilities of videos, as [`fit_temperature`] takes them, can be trusted."""
    return Fit(
        calibration_error=calibration_error(video_scores(view_logits, problem_type).numpy(), labels.numpy()),
        negative_log_likelihood=negative_log_likelihood(view_logits, labels, problem_type),
    )


def cross_fit(
    view_logits: torch.Tensor, labels: torch.Tensor, problem_type: str, groups: Sequence[str], *, seed: int = 0
) -> torch.Tensor:
    """
    The logits of each half of the videos, divided by the temperature of the other half.

    Args:
        view_logits, labels, problem_type: As for [`fit_temperature`].
        groups: (N,) names: what belongs together is in one half.
        seed: Of the halves.

    Raises:
        ValueError: there is one group alone, or a half tells no temperature.
    """
    names, rows = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"expected videos of two groups at least to fit a temperature, got one: {names[0]}")
    is_first = torch.from_numpy(np.random.default_rng(seed).permutation(len(names))[rows] < len(names) // 2)
    divided = torch.empty_like(view_logits)
    for half in (is_first, ~is_first):
        divided[half] = view_logits[half] / fit_temperature(view_logits[~half], labels[~half], problem_type)
    return divided
