"""From paired samples to a ratio, its interval and a verdict.

Samples of one round share the state of the machine, so the logarithm of their ratio cancels the
drift that ruins a comparison of two separate medians. Neighbouring rounds are still correlated:
intervals come from a bootstrap of blocks of rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

MARGIN = 0.01
LEVEL = 0.99


@dataclass(frozen=True)
class Interval:
    """A positive estimate with its confidence interval.

    Attributes:
        value: the estimate.
        lo: lower end.
        hi: upper end; infinite when `n` is too small for `level`.
        n: rounds it rests on.
        level: nominal coverage, 0.99 for 99 %.
    """

    value: float
    lo: float
    hi: float
    n: int
    level: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval of the logarithm, which is a relative error."""
        return math.log(self.hi / self.lo) / 2 if self.lo > 0 else math.inf


@dataclass(frozen=True)
class Ratio(Interval):
    """Time of the baseline over time of the subject: above 1, the subject is faster."""


class Verdict(StrEnum):
    """What an interval allows to be said against a margin."""

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    AMBIGUOUS = "AMBIGUOUS"


def paired_ratio(
    subject: ArrayLike,
    baseline: ArrayLike,
    *,
    level: float = LEVEL,
    block: int = 8,
    draws: int = 2000,
    seed: int = 0,
) -> Ratio:
    """Speed-up of `subject` over `baseline`: exp(median log(baseline / subject)).

    Args:
        subject: seconds, one sample a round.
        baseline: seconds, of the same rounds.
        level: coverage of the interval.
        block: consecutive rounds drawn together, at most a fifth of all.
        draws: bootstrap resamples.
        seed: of the resampling; equal input gives an equal interval.

    Raises:
        ValueError: if the samples are empty, differ in number or are not positive.
    """
    ours, theirs = _samples(subject), _samples(baseline)
    if ours.size != theirs.size:
        raise ValueError(
            f"paired samples come from the same rounds, got {ours.size} and {theirs.size}"
        )
    logs = np.log(theirs / ours)
    lo, hi = _interval_of_median(logs, level, block, draws, seed)
    return Ratio(math.exp(np.median(logs)), math.exp(lo), math.exp(hi), logs.size, level)


def median_interval(samples: ArrayLike, level: float = LEVEL, *, seed: int = 0) -> Interval:
    """Median of `samples` (seconds) with its block-bootstrap interval.

    Raises:
        ValueError: if there are no samples or one is not positive.
    """
    logs = np.log(_samples(samples))
    lo, hi = _interval_of_median(logs, level, block=8, draws=2000, seed=seed)
    return Interval(math.exp(np.median(logs)), math.exp(lo), math.exp(hi), logs.size, level)


def verdict(ratio: Interval, margin: float = MARGIN) -> Verdict:
    """FASTER or SLOWER when the whole interval lies beyond the margin, SAME when inside it."""
    if ratio.lo > 1 + margin:
        return Verdict.FASTER
    if ratio.hi < 1 / (1 + margin):
        return Verdict.SLOWER
    inside = ratio.lo > 1 / (1 + margin) and ratio.hi < 1 + margin
    return Verdict.SAME if inside else Verdict.AMBIGUOUS


def rounds_needed(pilot: Sequence[ArrayLike], target: float, least: int, cap: int) -> int:
    """Rounds after which every interval should be as narrow as `target`, from `least` to `cap`.

    The width falls with the square root of the rounds. The pilot's samples must not be used
    again: a number of rounds that depends on the data it judges biases the interval.

    Args:
        pilot: seconds per arm, the first arm against each of the others.
        target: half-width of the log-ratio, 0.0025 for a quarter of a per cent.
        least: fewest rounds.
        cap: most rounds.
    """
    subject, *others = pilot
    widths = [paired_ratio(subject, other, draws=300).half_width for other in others]
    size = _samples(subject).size
    wanted = size * (max(widths, default=0.0) / target) ** 2
    return max(least, math.ceil(min(cap, wanted)))


def geomean(values: ArrayLike) -> float:
    """Geometric mean of positive values.

    Raises:
        ValueError: if there are none or one is not positive.
    """
    return math.exp(np.log(_samples(values)).mean())


def pooled(ratios: Sequence[Ratio]) -> Ratio:
    """One ratio for many cases that should all show the same one, as those of an A/A arm.

    A geometric mean weighted by the cases' precision. Where the cases differ by more than their
    intervals explain, the interval is widened by that factor (the scale factor of the Particle
    Data Group, doi 10.1103/PhysRevD.110.030001, section 5.2.2). Cases with too few rounds for an
    interval have no weight.

    Raises:
        ValueError: if there are no ratios.
    """
    if not ratios:
        raise ValueError("no ratios to pool: at least one case must have been measured")
    level, rounds = ratios[0].level, sum(ratio.n for ratio in ratios)
    known = [ratio for ratio in ratios if math.isfinite(ratio.half_width)]
    if not known:
        return Ratio(geomean([ratio.value for ratio in ratios]), 0.0, math.inf, rounds, level)
    logs = np.log([ratio.value for ratio in known])
    weights = np.array([max(ratio.half_width, 1e-6) ** -2 for ratio in known])
    mean = float(np.average(logs, weights=weights))
    z = NormalDist().inv_cdf(0.5 + level / 2)
    excess = z**2 * float((weights * (logs - mean) ** 2).sum()) / max(1, len(known) - 1)
    half = math.sqrt(max(1.0, excess) / weights.sum())
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), rounds, level)


def break_even(
    sparsities: Sequence[float], ratios: Sequence[Ratio], margin: float = MARGIN
) -> float | None:
    """Sparsity from which on the subject is FASTER, or None.

    It is FASTER there and at every higher sparsity measured. Towards the point below, the place
    where the ratio reaches the margin is interpolated on the log-ratio.
    """
    points = sorted(zip(sparsities, ratios, strict=True), key=lambda point: point[0], reverse=True)
    found: tuple[float, Ratio] | None = None
    for sparsity, ratio in points:
        if verdict(ratio, margin) is not Verdict.FASTER:
            return _crossing((sparsity, ratio), found, math.log1p(margin)) if found else None
        found = (sparsity, ratio)
    return found[0] if found else None


def _crossing(below: tuple[float, Ratio], above: tuple[float, Ratio], level: float) -> float:
    low, high = math.log(below[1].value), math.log(above[1].value)
    if low >= level:  # not FASTER only because it is uncertain: nothing to interpolate
        return above[0]
    return below[0] + (above[0] - below[0]) * (level - low) / (high - low)


def _interval_of_median(
    logs: NDArray[np.float64], level: float, block: int, draws: int, seed: int
) -> tuple[float, float]:
    """The wider, at each end, of two intervals.

    Order statistics are exact for any number of independent rounds; the block bootstrap allows
    for correlated rounds but is too narrow when there are few blocks (simulated coverage at 30
    rounds: 91 % of a nominal 99 %).
    """
    size, tail = logs.size, (1 - level) / 2
    if 0.5**size > tail:  # even the full range of so few samples covers less than the level
        return -math.inf, math.inf
    z = NormalDist().inv_cdf(1 - tail)
    rank = max(0, math.floor((size - z * math.sqrt(size) - 1) / 2))
    ordered = np.partition(logs, (rank, size - 1 - rank))
    medians = np.median(_resample(logs, block, draws, seed), axis=1)
    lo, hi = np.quantile(medians, (tail, 1 - tail))
    return min(float(lo), float(ordered[rank])), max(float(hi), float(ordered[size - 1 - rank]))


def _resample(logs: NDArray[np.float64], block: int, draws: int, seed: int) -> NDArray[np.float64]:
    """`draws` rows of blocks of consecutive values, taken as a circle."""
    size = logs.size
    block = max(1, min(block, size // 5))
    starts = np.random.default_rng(seed).integers(size, size=(draws, -(-size // block), 1))
    rows = ((starts + np.arange(block)) % size).reshape(draws, -1)[:, :size]
    drawn: NDArray[np.float64] = logs[rows]
    return drawn


def _samples(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"samples are a non-empty vector, got shape {array.shape}")
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError("samples must be positive and finite: is the timer too coarse?")
    return array
