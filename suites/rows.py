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
from dynadiag.bench.watch import Seen

Samples = NDArray[np.float64]
OUTSIDE = "outside_rounds"
# Facts of the card that get a row, and their units.
WATCHED = {"sm_clock": ("sm_mhz", "MHz"), "temperature": ("temperature_c", "°C")}
# A time that holds launches of the host, or is too short for the clock, or was taken while heat
# held the clocks down: worth showing, and no ground for a claim.
DOUBTS = ("launch_bound", "unresolved", "throttled")


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


def peak_rows(peak: Peak) -> Iterator[Row]:
    """Yield the most bytes one call holds, flagged where repeats disagree.

    On CUDA also what torch's allocator reserved for it, and what the device was short of
    afterwards, which is how the workspaces of libraries show.
    """
    flags = ["peak_differs"] if peak.bytes is not None and peak.reason else []
    more = {"unit": "B", "stat": "measured", "reason": peak.reason, "flags": flags}
    yield {"metric": "peak_bytes", "value": peak.bytes} | more
    for metric, size in (("peak_reserved", peak.reserved), ("device_used", peak.device_used)):
        if size is not None:
            yield {"metric": metric, "value": size, "unit": "B", "stat": "measured"}


def energy_rows(energy: Energy, calls: int = 1) -> Iterator[Row]:
    """Yield the joules of one call, null with the reason where nothing counts them.

    Where they are known: gross and net of an idle device, the mean power, and the seconds a call
    took in that window, where the arm ran alone and undisturbed.

    Args:
        energy: of a window.
        calls: in one iteration of it.
    """
    row: Row = {"metric": "energy", "unit": "J/iter"}
    row |= {"reason": energy.reason, "flags": list(energy.flags)}
    gross, net = energy.gross_j_per_iteration, energy.net_j_per_iteration
    yield row | {"stat": "gross", "value": None if gross is None else gross / calls}
    if energy.gross_j is None:
        return
    if net is not None:
        yield row | {"stat": "net", "value": net / calls}
    yield {"metric": "power", "unit": "W", "stat": "mean", "value": energy.watts}
    seconds = energy.seconds / energy.iterations / calls
    yield {"metric": "time", "unit": "s", "stat": "sustained", "value": seconds}


def seen_rows(seen: Seen) -> Iterator[Row]:
    """Yield clock and temperature of the card at the end of a case, where they are known."""
    for metric, (fact, unit) in WATCHED.items():
        known = [value for value in seen.facts.get(fact, ()) if value is not None]
        if known:
            row: Row = {"metric": metric, "unit": unit, "stat": "at_end", "value": known[-1]}
            yield row | {"flags": list(seen.flags)}


def hedged(row: Row) -> Row:
    """Return a ratio's row with its verdict withdrawn where a flag leaves room for doubt."""
    doubts = [flag for flag in row["flags"] if flag in DOUBTS]
    return row | {"verdict": str(Verdict.AMBIGUOUS)} if doubts else row


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
