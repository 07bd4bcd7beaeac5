"""Measurements become rows: one metric of one arm of one case each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiag.bench.energy import Energy
from dynadiag.bench.memory import Peak
from dynadiag.bench.records import Row
from dynadiag.bench.statistics import (
    Interval,
    Ratio,
    Verdict,
    median_interval,
    paired_ratio,
    pooled,
    verdict,
)

Samples = NDArray[np.float64]
OUTSIDE = "outside_rounds"


def time_rows(samples: Samples) -> Iterator[Row]:
    """Yield the distribution of seconds a call: median with its interval, tails and minimum."""
    time = {"metric": "time", "unit": "s", "n": samples.size}
    middle = median_interval(samples)
    yield time | {"stat": "median"} | _interval(middle)
    for stat, value in zip(("p05", "p95"), np.quantile(samples, (0.05, 0.95)), strict=True):
        yield time | {"stat": stat, "value": float(value)}
    yield time | {"stat": "min", "value": float(samples.min())}


def speedup_row(samples: Samples, baseline: str, theirs: Samples) -> Row:
    """Return how many times faster an arm is than a baseline of the same rounds."""
    ratio = paired_ratio(samples, theirs)
    return _speedup(baseline) | _interval(ratio) | {"verdict": str(verdict(ratio))}


def outside_rows(samples: Samples, baselines: Mapping[str, Samples]) -> Iterator[Row]:
    """Yield what a few calls apart from the rounds allow to say: no interval, no fine verdict."""
    mine = float(np.median(samples))
    few: Row = {"n": samples.size, "flags": [OUTSIDE]}
    few["reason"] = "too slow for the rounds of this case: a few calls apart from them"
    yield {"metric": "time", "unit": "s", "stat": "median", "value": mine} | few
    for baseline, theirs in baselines.items():
        ratio = float(np.median(theirs)) / mine
        found = Verdict.SLOWER if ratio < 0.5 else Verdict.AMBIGUOUS
        yield _speedup(baseline) | few | {"value": ratio, "verdict": str(found)}


def error_row(error: float | None) -> Row:
    """Return the error of an arm against fp64."""
    return {"metric": "error", "unit": "1", "stat": "max_relative", "value": error}


def bytes_row(size: int) -> Row:
    """Return the bytes of the stored weight."""
    return {"metric": "weight_bytes", "unit": "B", "stat": "computed", "value": size}


def peak_row(peak: Peak) -> Row:
    """Return the most bytes one call holds, flagged where repeats disagree."""
    flags = ["peak_differs"] if peak.bytes is not None and peak.reason else []
    row = {"metric": "peak_bytes", "unit": "B", "stat": "measured", "value": peak.bytes}
    return row | {"reason": peak.reason, "flags": flags}


def energy_row(energy: Energy) -> Row:
    """Return the joules of one call, null with the reason where nothing counts them."""
    row: Row = {"metric": "energy", "unit": "J/iter", "stat": "gross"}
    return row | {"value": energy.gross_j_per_iteration, "reason": energy.reason}


def control(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the header fields that say whether a run may claim anything.

    `dense_again` is `dense` under another name: pooled over all cases, their ratio must be SAME.

    Returns:
        `aa` (None where nothing was measured) and `suspect`.
    """
    ratios = [
        Ratio(row["value"], row["ci_lo"], row["ci_hi"], row["n"], row["ci_level"])
        for row in rows
        if (row["arm"], row["metric"], row["baseline"]) == ("dense_again", "speedup", "dense")
        and row["ci_lo"] is not None
    ]
    if not ratios:
        return {"aa": None, "suspect": True}
    every = pooled(ratios)
    found = verdict(every)
    aa: dict[str, Any] = {"ratio": every.value, "lo": every.lo, "hi": every.hi, "n": every.n}
    aa |= {"verdict": str(found), "cases": len(ratios)}
    return {"aa": aa, "suspect": found is not Verdict.SAME}


def _speedup(baseline: str) -> Row:
    return {"metric": "speedup", "unit": "1", "stat": "median_log_ratio", "baseline": baseline}


def _interval(found: Interval) -> Row:
    ends = (found.lo, found.hi) if math.isfinite(found.hi) else (None, None)
    bounds = dict(zip(("ci_lo", "ci_hi"), ends, strict=True))
    return {"value": found.value, "n": found.n, "ci_level": found.level} | bounds
