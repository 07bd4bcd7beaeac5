"""From estimates of ratios of ratios to what they mean, over all cases at once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from dynadiag.bench.statistics import Interval, Verdict, verdict

from . import student
from .config import Config, Limits
from .outcome import Change, Kind

_NORMAL = NormalDist()
# Equal logarithms have no spread, but neither are they known to more digits than these.
_LEAST_ERROR = 1e-9


@dataclass(frozen=True)
class Estimate:
    """The logarithm of a ratio, with the uncertainty of that logarithm.

    Attributes:
        error: its standard error; infinite where one value alone says nothing of its spread.
        freedom: degrees of freedom behind `error`; 0 where it is known, not estimated.
        n: values it rests on.
    """

    log: float
    error: float
    freedom: int = 0
    n: int = 1

    @classmethod
    def of(cls, logs: Sequence[float]) -> Estimate:
        """The mean of independent logarithms, those of separate processes or cases."""
        n = len(logs)
        if n < 2:
            return cls(math.fsum(logs), math.inf, n=n)
        error = float(np.std(logs, ddof=1)) / math.sqrt(n)
        return cls(math.fsum(logs) / n, max(error, _LEAST_ERROR), n - 1, n)

    def interval(self, level: float) -> Interval:
        """The ratio with its interval."""
        value = math.exp(self.log)
        if not math.isfinite(self.error):
            return Interval(value, 0.0, math.inf, self.n, level)
        half = self._quantile(0.5 + level / 2) * self.error
        return Interval(value, math.exp(self.log - half), math.exp(self.log + half), self.n, level)

    def p(self, bound: float) -> float:
        """How likely an estimate as low as this one is if the ratio is truly `bound`."""
        if not math.isfinite(self.error):
            return 0.5
        t = (self.log - math.log(bound)) / self.error
        return student.cdf(t, self.freedom) if self.freedom else _NORMAL.cdf(t)

    def _quantile(self, probability: float) -> float:
        if self.freedom:
            return student.quantile(probability, self.freedom)
        return _NORMAL.inv_cdf(probability)


def standard_error(ratio: Interval) -> float:
    """The standard error that an interval of a normal logarithm stands for."""
    return ratio.half_width / _NORMAL.inv_cdf(0.5 + ratio.level / 2)


def change(
    columns: Mapping[str, Any],
    name: str,
    reference: Interval,
    now: Interval,
    moved: Estimate,
    config: Config,
    note: str = "",
) -> Change:
    """A change that `settle` has not judged yet; with a `note` it is in doubt and never will be."""
    limits, ratio = _limits(columns, config), moved.interval(config.level)
    return Change(
        case=str(columns.get("case_id", "")),
        name=name,
        arm=str(columns["arm"]),
        baseline=str(columns["baseline"]),
        reference=reference,
        now=now,
        ratio=ratio,
        verdict=Verdict.AMBIGUOUS if note else verdict(ratio, limits.margin),
        kind=Kind.AMBIGUOUS,
        p=moved.p(1 - limits.fail),
        columns=columns,
        note=note,
    )


def settle(changes: Iterable[Change], config: Config) -> tuple[Change, ...]:
    """Say of every change what it means.

    A regression has its whole interval beyond `fail`, is among the discoveries of Benjamini and
    Hochberg (doi 10.1111/j.2517-6161.1995.tb02031.x) over all `changes`, and every baseline of its
    case shows one: what shows against one alone is that baseline's doing.

    Args:
        changes: as `change` made them.
        config: the limits.
    """
    every = tuple(changes)
    threshold = discoveries([each.p for each in every if not each.note], config.rate)
    found = [
        each if each.note else replace(each, kind=_kind(each, threshold, config)) for each in every
    ]
    sides: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for each in found:
        if not each.note:
            sides[each.case, each.arm].append(each)
    return tuple(_agreed(each, sides[each.case, each.arm]) for each in found)


def discoveries(ps: Sequence[float], rate: float) -> float:
    """The largest of `ps` that is a discovery at this false discovery rate; -1 for none."""
    ordered = sorted(ps)
    good = [p for rank, p in enumerate(ordered, 1) if p <= rate * rank / len(ordered)]
    return max(good, default=-1.0)


def _kind(each: Change, threshold: float, config: Config) -> Kind:
    limits, ratio = _limits(each.columns, config), each.ratio
    if ratio.hi < 1 - limits.fail and each.p <= threshold:
        return Kind.REGRESSION
    if ratio.hi < 1 - limits.warn:
        return Kind.WARNING
    if ratio.lo > 1 / (1 - limits.warn):
        return Kind.IMPROVEMENT
    within = ratio.lo > 1 - limits.fail and ratio.hi < 1 / (1 - limits.fail)
    return Kind.WITHIN if within else Kind.AMBIGUOUS


def _agreed(each: Change, sides: Sequence[Change]) -> Change:
    others = [side.baseline for side in sides if side.kind is not Kind.REGRESSION]
    if each.kind is not Kind.REGRESSION or not others:
        return each
    return replace(each, kind=Kind.AMBIGUOUS, note=f"not so against {', '.join(others)}")


def _limits(columns: Mapping[str, Any], config: Config) -> Limits:
    return config.limits_of(columns) if "case_id" in columns else config.together
