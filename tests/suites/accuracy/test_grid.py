from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from suites.accuracy.grid import FILE, FIRST_SEARCH_SEED, Grid, GridError, Search, load, only

GRID = Grid("full", {"digits-mlp": 20}, ("dense", "rigl", "static"), (0.9, 0.99), {"digits-mlp": 2})
SEARCH = Search({"digits-mlp": [1e-3, 1e-2]}, {"digits-mlp": 2}, {"digits-mlp": 3})


def rates(grid: Grid) -> dict[tuple[str, float], float]:
    return {(method, at): 1e-3 for method in grid.methods for at in grid.at(method)}


@pytest.mark.parametrize("mode", ["full", "long", "quick", "smoke"])
def test_every_mode_can_be_read(mode: str) -> None:
    grid = load(mode)
    assert set(grid.seeds) == set(grid.steps)
    assert {"rigl", "dynadiag"} <= set(grid.methods)


def test_the_full_mode_is_what_the_figures_need() -> None:
    grid = load("full")
    assert min(grid.seeds.values()) >= 5
    assert grid.sparsities == (0.8, 0.9, 0.95, 0.99)
    assert set(grid.steps) == {"digits-mlp", "digits-vit", "digits-mixer", "text-gpt"}
    assert grid.search is not None
    for part in (grid.search.rates, grid.search.seeds, grid.search.again):
        assert set(part) == set(grid.steps)


def test_every_method_has_the_same_budget_and_the_same_search() -> None:
    grid = replace(GRID, search=SEARCH)
    tried: dict[tuple[str, float], list[float]] = {}
    for run in grid.searches("digits-mlp"):
        assert run.recipe.steps == 20
        assert run.seed >= FIRST_SEARCH_SEED
        tried.setdefault((run.method, run.sparsity), []).append(run.recipe.lr)
    assert {tuple(rates) for rates in tried.values()} == {(1e-3, 1e-3, 1e-2, 1e-2)}
    places = {(method, at) for method in ("rigl", "static") for at in (0.9, 0.99)}
    assert set(tried) == {("dense", 0.0)} | places


def test_the_second_round_has_other_seeds() -> None:
    grid = replace(GRID, search=SEARCH)
    runs = list(grid.second_searches("digits-mlp", {("rigl", 0.9): [1e-2]}))
    assert {(run.method, run.sparsity, run.recipe.lr) for run in runs} == {("rigl", 0.9, 1e-2)}
    assert [run.seed - FIRST_SEARCH_SEED for run in runs] == [2, 3, 4]
    assert not list(GRID.searches("digits-mlp"))


def test_the_reported_runs_have_every_seed_once() -> None:
    runs = list(GRID.finals("digits-mlp", rates(GRID)))
    assert len(runs) == len(set(runs)) == 2 * (1 + 2 * 2)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert sum(run.method == "dense" for run in runs) == 2


def test_what_is_to_be_decided_gets_more_seeds() -> None:
    grid = replace(GRID, more={"digits-mlp": 5}, decided=("rigl", "static"))
    runs = list(grid.finals("digits-mlp", rates(grid)))
    seeds: dict[str, set[int]] = {run.method: set() for run in runs}
    for run in runs:
        seeds[run.method].add(run.seed)
    assert seeds == {"dense": {0, 1}, "rigl": set(range(5)), "static": set(range(5))}


def test_seeds_take_turns_at_the_folds_and_the_search_at_none() -> None:
    grid = replace(GRID, seeds={"digits-mlp": 5}, folds={"digits-mlp": 2}, search=SEARCH)
    runs = list(grid.finals("digits-mlp", rates(grid)))
    assert {(run.seed, run.fold) for run in runs} == {(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)}
    assert {run.fold for run in grid.searches("digits-mlp")} == {0}
    assert {run.fold for run in GRID.finals("digits-mlp", rates(GRID))} == {0}


def test_a_trace_is_kept_of_the_first_seed_at_its_sparsity() -> None:
    grid = load("quick")
    runs = list(grid.finals("digits-mlp", rates(grid)))
    watched = {(run.seed, run.sparsity) for run in runs if run.trace is not None}
    assert watched == {(0, 0.9)}


def test_a_part_of_a_grid() -> None:
    part = only(GRID, ["digits-mlp"], ["rigl"])
    assert part.methods == ("rigl",)
    with pytest.raises(GridError, match=re.escape("no method 'rgl' in this mode; it has dense")):
        only(GRID, [], ["rgl"])


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="unknown mode 'fast'; known: full, long, quick, smoke"):
        load("fast")
    broken = tmp_path / "accuracy.toml"
    broken.write_text(FILE.read_text(encoding="utf-8").replace('"srigl"', '"sriggle"'))
    with pytest.raises(GridError, match=r"unknown method 'sriggle'; known: .*srigl"):
        load("full", broken)
    text = FILE.read_text(encoding="utf-8")
    broken.write_text(text.replace('decided = ["', 'decided = ["seat", "'))
    with pytest.raises(GridError, match="unknown method 'seat'"):
        load("full", broken)
