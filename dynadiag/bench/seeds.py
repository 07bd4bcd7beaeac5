"""What runs that differ in their seed say together: means, paired differences, their intervals.

Seeds are few, so intervals are Student's, over seeds; differences are between runs of one seed,
which share data order and splits, so that what a seed does to both cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
# A spread below this share of the values is rounding: two seeds that differ by the same number of
# digits say nothing of how far a third would be.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        value: the mean.
        lo: lower end of the interval; None with one seed, or where all are equal.
        hi: upper end.
        n: seeds.
        p: two-sided p-value of the mean being zero; None where nothing varies.
    """

    value: float
    lo: float | None
    hi: float | None
    n: int
    p: float | None = None


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean with its t-interval at `LEVEL`.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values: a mean needs at least one seed")
    sample = np.asarray(values, dtype=np.float64)
    value, n = float(sample.mean()), len(sample)
    if n == 1:
        return Estimate(value, None, None, n)
    error = float(sample.std(ddof=1)) / n**0.5
    if error <= _ROUNDING * float(np.abs(sample).max()):
        return Estimate(value, None, None, n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    p = float(2 * stats.t.sf(abs(value) / error, n - 1))
    return Estimate(value, value - reach, value + reach, n, p)


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `values` - `others`, seed by seed, with a paired t-test's p-value.

    Raises:
        ValueError: the two are not of the same seeds.
    """
    if len(values) != len(others):
        raise ValueError(
            f"{len(values)} values against {len(others)}: give one of each for every seed"
        )
    return mean([one - other for one, other in zip(values, others, strict=True)])
