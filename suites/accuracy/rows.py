"""Finished runs as rows of a record: one case a preset and sparsity, one arm a method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynadiag.bench.records import Row, blank_row, case_id
from dynadiag.bench.seeds import LEVEL, Estimate, difference, mean
from dynadiag.train.folder import Result
from dynadiag.train.run import Run

from .search import Candidate, criterion

SUITE = "accuracy"
UNITS = {"accuracy": "1", "loss": "nat"}
# What each method is compared with, seed by seed.
BASELINES = ("rigl", "static_unstructured", "static", "dense")
REFERENCE = "rigl"
# How a frozen model of the method stores its weights.
FORMATS = {
    "dense": "dense",
    "static_unstructured": "csr",
    "set": "csr",
    "rigl": "csr",
    "mest": "csr",
    "srigl": "condensed",
    "dsb": "csr",
    "pixelated_butterfly": "block",
}


@dataclass(frozen=True)
class Arm:
    """What one method came to in one case.

    Attributes:
        method: its name.
        runs: one a seed, with how it ended.
        tried: learning rates of the search that served this case.
        failure: why there is no result, or None.
    """

    method: str
    runs: Sequence[tuple[Run, Result]]
    tried: Sequence[Candidate] = ()
    failure: str | None = None


def case_rows(preset: str, sparsity: float, arms: Sequence[Arm]) -> Iterator[Row]:
    """Return the rows of one case, the closing one last."""
    metric = criterion(preset)
    arms = [_unless_diverged(arm, metric) for arm in arms]
    values = {arm.method: _by_seed(arm, metric) for arm in arms if arm.failure is None}
    first = next(arm.runs[0][0] for arm in arms if arm.runs)
    case = _case(first, sparsity)
    for arm in arms:
        about = case | _arm(arm)
        if arm.failure is not None:
            yield blank_row(**about, metric=metric, status="failed", reason=arm.failure)
            continue
        yield from _results(about, metric, values, arm)
        yield from _searched(about, arm.tried)
    yield blank_row(**case, metric="case", unit="1")


def _results(
    about: Mapping[str, Any], metric: str, values: Mapping[str, Mapping[int, float]], arm: Arm
) -> Iterator[Row]:
    own, unit = values[arm.method], UNITS[metric]
    for seed, value in own.items():
        yield blank_row(**about, metric=metric, unit=unit, stat="seed", seed=seed, value=value)
    yield blank_row(**about, metric=metric, unit=unit, stat="mean", **_ends(mean([*own.values()])))
    for baseline in BASELINES:
        theirs = values.get(baseline, {})
        common = [seed for seed in own if seed in theirs]
        if baseline != arm.method and common:
            found = difference([own[s] for s in common], [theirs[s] for s in common])
            compared = {**about, "baseline": baseline}
            ends = _ends(found)
            yield blank_row(**compared, metric=metric, unit=unit, stat="difference", **ends)
            yield blank_row(
                **compared, metric="p_value", unit="1", stat="paired_t", value=found.p, n=found.n
            )
    results = [result for _, result in arm.runs]
    unfrozen = mean([result.trained[metric] for result in results])
    yield blank_row(**about, metric=metric, unit=unit, stat="unfrozen", **_ends(unfrozen))
    change = mean([result.change for result in results])
    yield blank_row(**about, metric="freeze_change", unit="1", stat="mean", **_ends(change))
    seconds = mean([result.seconds for result in results])
    yield blank_row(**about, metric="train_seconds", unit="s", stat="mean", **_ends(seconds))


def _searched(about: Mapping[str, Any], tried: Sequence[Candidate]) -> Iterator[Row]:
    for each in tried:
        found = f"validation loss {each.loss:.4g}, accuracy {each.accuracy:.4f}"
        row = {**about, "config": found}
        yield blank_row(
            **row, metric="learning_rate", unit="1", stat="search", value=each.rate, n=each.seeds
        )


def _unless_diverged(arm: Arm, metric: str) -> Arm:
    """Fail a method of which a seed has no number: a mean of the others would flatter it."""
    lost = sum(not math.isfinite(value) for value in _by_seed(arm, metric).values())
    if not lost:
        return arm
    return replace(arm, failure=f"the training diverged in {lost} of {len(arm.runs)} seeds")


def _by_seed(arm: Arm, metric: str) -> dict[int, float]:
    return {run.seed: result.test[metric] for run, result in arm.runs}


def _case(run: Run, sparsity: float) -> dict[str, Any]:
    """The columns of a case; dense runs, which have no sparsity, stand in every one."""
    about = {"model": run.preset, "sparsity": sparsity, "batch": run.recipe.batch}
    number = case_id(suite=SUITE, steps=run.recipe.steps, **about)
    return {"case_id": number, "suite": SUITE, "op": "train", "dtype": "float32", **about}


def _arm(arm: Arm) -> dict[str, Any]:
    known = {
        "arm": arm.method,
        "format": FORMATS.get(arm.method, "diagonal"),
        "is_baseline": arm.method == REFERENCE,
    }
    if not arm.runs:
        return known
    run, result = arm.runs[0]
    options = "".join(f" {name}={value}" for name, value in run.options)
    config = f"lr={run.recipe.lr:g} steps={run.recipe.steps}{options}"
    return {**known, "sparsity_actual": result.sparsity, "config": config}


def _ends(found: Estimate) -> dict[str, Any]:
    ends = {"value": found.value, "ci_lo": found.lo, "ci_hi": found.hi, "n": found.n}
    return ends | {"ci_level": None if found.lo is None else LEVEL}
