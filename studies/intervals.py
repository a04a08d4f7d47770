"""How sure a study is: means over seeds, differences of two cases, and what these say of a claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import pandas
from scipy.stats import sem, t


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and half the width of its 95 % interval, by Student's t; NaN of a single value."""

    value: float
    half_width: float

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        """Both numbers as the specification says; with one digit unless it says anything."""
        spec = spec or ".1f"
        value = format(self.value, spec)
        return value if isnan(self.half_width) else f"{value} ± {format(self.half_width, spec)}"

    @property
    def verdict(self) -> str:
        """Of a difference that a claim says is above zero: whether that shows, given how far seeds differ."""
        if isnan(self.half_width):
            return "one seed"
        if self.value - self.half_width > 0:
            return "holds"
        return "the opposite" if self.value + self.half_width < 0 else "does not show"


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean, by Student's t; NaN of a single value."""
    return float(t.ppf(0.975, len(values) - 1) * sem(values)) if len(values) > 1 else float("nan")


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of some seeds' values."""
    return Mean(sum(values) / len(values), half_interval(values))


def mean_difference(better: pandas.DataFrame, worse: pandas.DataFrame, figure: str) -> Mean:
    """
    The mean difference of a figure between two cases, by seed: models of one seed saw the same clips in order. A seed
    that only one case has is left out.
    """
    pair = better.set_index("seed")[figure] - worse.set_index("seed")[figure]
    return mean_of(pair.dropna().to_list())
