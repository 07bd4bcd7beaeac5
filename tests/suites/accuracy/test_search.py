from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dynadiag.train.folder import Result
from dynadiag.train.preset import preset
from dynadiag.train.run import Run, create
from suites.accuracy.grid import Grid, Search
from suites.accuracy.search import Candidate, best, candidates, criterion, finalists, rates


def ended(run: Run, accuracy: float, loss: float = 0.5) -> tuple[Run, Result]:
    measured = {"accuracy": accuracy, "loss": loss}
    return run, Result(Path(), 10, 1.0, run.sparsity, measured, measured, measured, 0.0)


def run(rate: float, seed: int, sparsity: float = 0.9) -> Run:
    return create("digits-mlp", "rigl", sparsity=sparsity, seed=seed, lr=rate, steps=10)


def test_candidates_are_means_over_seeds() -> None:
    found = candidates(
        [ended(run(1e-3, 0), 0.9), ended(run(1e-3, 1), 0.8), ended(run(1e-2, 0), 0.7)]
    )
    ((place, (first, second)),) = found.items()
    assert place == ("digits-mlp", "rigl", 0.9)
    assert (first.rate, first.seeds) == (1e-3, 2)
    assert first.accuracy == pytest.approx(0.85)
    assert second == Candidate(1e-2, 0.5, 0.7, 1)


def test_the_loss_decides() -> None:
    tried = [
        Candidate(1e-3, 0.4, 0.9, 1),
        Candidate(1e-2, 0.3, 0.8, 1),
        Candidate(1.0, 0.5, 0.9, 1),
    ]
    assert best(tried).rate == 1e-2


def test_the_last_round_decides_between_its_two() -> None:
    tried = [
        Candidate(1e-3, 0.3, 0.9, 2),
        Candidate(3e-3, 0.35, 0.9, 8),
        Candidate(1e-2, 0.34, 0.9, 8),
    ]
    assert best(tried).rate == 1e-2
    found = finalists("a", {("a", "rigl", 0.9): tried, ("b", "rigl", 0.9): tried[:1]})
    assert found == {("rigl", 0.9): [1e-3, 1e-2]}


def test_a_rate_that_diverged_is_not_chosen() -> None:
    tried = [Candidate(1.0, math.nan, 0.1, 1), Candidate(1e-3, 2.5, 0.1, 1)]
    assert best(tried).rate == 1e-3


def test_each_sparsity_takes_the_rate_of_its_search() -> None:
    grid = Grid("full", {"digits-mlp": 10}, ("dense", "rigl"), (0.8, 0.99), {"digits-mlp": 1})
    search = Search({"digits-mlp": [1e-3]}, {"digits-mlp": 1}, {"digits-mlp": 0})
    searched = replace(grid, search=search)
    tried = candidates([ended(run(3e-3, 0, 0.8), 0.9), ended(run(1e-2, 0, 0.99), 0.9)])
    found = rates(searched, "digits-mlp", tried)
    assert found["rigl", 0.8] == 3e-3
    assert found["rigl", 0.99] == 1e-2
    assert found["dense", 0.0] == preset("digits-mlp").recipe.lr


def test_without_a_search_known_rates_serve() -> None:
    grid = Grid("quick", {"digits-mlp": 10}, ("rigl", "static"), (0.9,), {"digits-mlp": 1})
    known = Grid(**{**vars(grid), "known": {"digits-mlp": {"rigl": 0.02}}})
    found = rates(known, "digits-mlp", {})
    assert found == {("rigl", 0.9): 0.02, ("static", 0.9): preset("digits-mlp").recipe.lr}


def test_text_is_judged_by_its_loss() -> None:
    assert (criterion("text-gpt"), criterion("digits-vit")) == ("loss", "accuracy")
