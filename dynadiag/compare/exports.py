"""The finding for other programs: `compare.json`, and what two services for benchmarks read."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from dynadiag.bench.statistics import Interval

from .outcome import Change, Comparison

SCHEMA_VERSION = "1.0"


def plain(found: Comparison) -> dict[str, Any]:
    """The whole finding; results/schema/compare-1.schema.json describes it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "mode": found.mode,
        "status": str(found.status),
        "exit_code": int(found.exit_code),
        "reasons": list(found.reasons),
        "against": found.against,
        "pairs": found.pairs,
        "overall": [_change(each) for each in found.overall],
        "changes": [_change(each) for each in found.changes],
        "gates": [asdict(each) for each in found.gates],
        "controls": [
            {"name": each.name, "ratio": _interval(each.ratio), "moved": each.moved}
            for each in found.controls
        ],
        "environment": [asdict(each) for each in found.environment],
    }


def bencher(found: Comparison) -> dict[str, Any]:
    """Speedups in bencher.dev's Metric Format, by case and arm, a measure for each baseline."""
    metrics: dict[str, Any] = {}
    for each in found.changes:
        measures = metrics.setdefault(f"{each.name} {each.arm}", {})
        measures[f"speedup_over_{each.baseline}".replace(" ", "_")] = _bounds(each.now)
    return metrics


def smaller_is_better(found: Comparison) -> list[dict[str, Any]]:
    """Times relative to the baseline, as github-action-benchmark's customSmallerIsBetter."""
    return [
        {
            "name": f"{each.name} {each.arm}",
            "unit": f"time of {each.baseline}",
            "value": 1 / each.now.value,
            "range": f"± {(1 - math.exp(-half)) / each.now.value:.3g}",
            "extra": str(each.kind),
        }
        for each in found.changes
        if math.isfinite(half := each.now.half_width)
    ]


def _change(each: Change) -> dict[str, Any]:
    return {
        "case_id": each.case or None,
        "case": each.name,
        "arm": each.arm,
        "baseline": each.baseline,
        "reference": _interval(each.reference),
        "now": _interval(each.now),
        "change": _interval(each.ratio),
        "verdict": str(each.verdict),
        "kind": str(each.kind),
        "p": each.p,
        "note": each.note,
    }


def _interval(found: Interval | None) -> dict[str, Any] | None:
    if found is None:
        return None
    ends = (found.lo, found.hi) if math.isfinite(found.hi) else (None, None)
    bounds = dict(zip(("lo", "hi"), ends, strict=True))
    return {"value": found.value, **bounds, "level": found.level, "n": found.n}


def _bounds(found: Interval) -> dict[str, float]:
    bounds = {"value": found.value}
    if math.isfinite(found.hi):
        bounds |= {"lower_value": found.lo, "upper_value": found.hi}
    return bounds
