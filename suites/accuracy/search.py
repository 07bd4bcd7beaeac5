"""Which learning rate each method is reported with: the best on the validation split.

The loss decides, also for tasks that report their accuracy: of 359 digits that moves in steps of
0.3 points, and three seeds of one method differ by more than its rates do. So the best two rates of
a few seeds are trained again with more, and the mean over all of those decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dynadiag.train.folder import Result
from dynadiag.train.preset import preset
from dynadiag.train.run import Run

from .grid import Grid

# Tasks reported by their loss; the others by the share of examples that are correct.
BY_LOSS = ("text",)
# A method and a sparsity.
Searched = tuple[str, float]
Rates = dict[Searched, float]
# A preset, a method and a sparsity.
Place = tuple[str, str, float]


@dataclass(frozen=True)
class Candidate:
    """A learning rate that was tried.

    Attributes:
        rate: the learning rate.
        loss: mean validation loss in nats.
        accuracy: mean share of the validation split that came out correct.
        seeds: trained for it.
    """

    rate: float
    loss: float
    accuracy: float
    seeds: int


def criterion(preset: str) -> str:
    """Return the metric a preset is judged by: `loss` or `accuracy`."""
    return "loss" if preset.startswith(BY_LOSS) else "accuracy"


def candidates(
    found: Iterable[tuple[Run, Result]],
) -> dict[tuple[str, str, float], list[Candidate]]:
    """Group finished runs of the search by preset, method and sparsity, a candidate a rate."""
    grouped: dict[Place, dict[float, list[Result]]] = {}
    for run, result in found:
        rates = grouped.setdefault((run.preset, run.method, run.sparsity), {})
        rates.setdefault(run.recipe.lr, []).append(result)
    return {key: [_candidate(*each) for each in rates.items()] for key, rates in grouped.items()}


def best(tried: Sequence[Candidate]) -> Candidate:
    """Return the candidate of the least loss among those of the most seeds, the last round."""
    most = max(each.seeds for each in tried)
    return ranked([each for each in tried if each.seeds == most])[0]


def ranked(tried: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates by their loss; one that diverged has none, and comes last."""
    return sorted(tried, key=lambda each: math.inf if math.isnan(each.loss) else each.loss)


def finalists(name: str, tried: Mapping[Place, Sequence[Candidate]]) -> dict[Searched, list[float]]:
    """Return the two best learning rates of a preset, by method and sparsity."""
    return {
        (method, sparsity): [each.rate for each in ranked(offered)[:2]]
        for (preset, method, sparsity), offered in tried.items()
        if preset == name
    }


def rates(grid: Grid, name: str, tried: Mapping[Place, Sequence[Candidate]]) -> Rates:
    """Return the learning rate of a preset by method and sparsity.

    Without a search these are the ones that the full mode found, or else the preset's own.
    """
    chosen: Rates = {}
    for method in grid.methods:
        for sparsity in grid.at(method):
            offered = tried.get((name, method, sparsity))
            own = grid.known.get(name, {}).get(method, preset(name).recipe.lr)
            chosen[method, sparsity] = best(offered).rate if offered else own
    return chosen


def _candidate(rate: float, results: Sequence[Result]) -> Candidate:
    loss = fmean(each.validation["loss"] for each in results)
    accuracy = fmean(each.validation["accuracy"] for each in results)
    return Candidate(rate, loss, accuracy, len(results))
