from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynadiag.bench.schema import check_row
from dynadiag.bench.seeds import difference, mean
from dynadiag.train.folder import Result
from dynadiag.train.run import create
from suites.accuracy.rows import Arm, case_rows
from suites.accuracy.search import Candidate

ACCURACY = {
    "dense": [0.98, 0.97, 0.99],
    "rigl": [0.96, 0.95, 0.97],
    "dynadiag": [0.97, 0.95, 0.96],
}


def arm(method: str, seeds: int = 3) -> Arm:
    runs = []
    for seed, value in enumerate(ACCURACY[method][:seeds]):
        run = create("digits-mlp", method, sparsity=0.9, seed=seed, steps=10, lr=3e-3)
        measured = {"accuracy": value, "loss": 1 - value}
        runs.append((run, Result(Path(), 10, 2.0, run.sparsity, measured, measured, measured, 0.0)))
    return Arm(method, runs, [Candidate(3e-3, 0.1, 0.95, 1)])


def rows(*arms: Arm) -> list[dict[str, Any]]:
    return list(case_rows("digits-mlp", 0.9, arms))


def one(found: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    (row,) = [row for row in found if all(row[name] == value for name, value in wanted.items())]
    return row


def test_rows_follow_the_schema_and_close_the_case() -> None:
    found = rows(arm("dense"), arm("rigl"), arm("dynadiag"))
    for row in found:
        check_row(row | {"run_id": "x"}, "a row", extra=False)
    assert [row["metric"] for row in found].count("case") == 1
    assert found[-1]["metric"] == "case"
    assert len({row["case_id"] for row in found}) == 1


def test_a_mean_has_its_interval_and_every_seed_its_row() -> None:
    found = rows(arm("rigl"), arm("dynadiag"))
    row = one(found, arm="dynadiag", metric="accuracy", stat="mean")
    expected = mean(ACCURACY["dynadiag"])
    assert (row["value"], row["ci_lo"], row["ci_hi"]) == (expected.value, expected.lo, expected.hi)
    assert (row["n"], row["unit"], row["config"]) == (3, "1", "lr=0.003 steps=10")
    seeds = [row for row in found if row["arm"] == "dynadiag" and row["stat"] == "seed"]
    assert [(row["seed"], row["value"]) for row in seeds] == list(enumerate(ACCURACY["dynadiag"]))


def test_what_freezing_did_is_told() -> None:
    method = arm("rigl")
    before, change = {"accuracy": 0.5, "loss": 0.1}, 0.25
    frozen = [(run, replace(result, trained=before, change=change)) for run, result in method.runs]
    found = rows(replace(method, runs=frozen))
    assert one(found, metric="accuracy", stat="unfrozen")["value"] == pytest.approx(0.5)
    assert one(found, metric="freeze_change")["value"] == pytest.approx(change)


def test_differences_are_paired_by_seed() -> None:
    found = rows(arm("rigl"), arm("dynadiag", seeds=2))
    row = one(found, arm="dynadiag", baseline="rigl", stat="difference")
    expected = difference(ACCURACY["dynadiag"][:2], ACCURACY["rigl"][:2])
    assert (row["value"], row["n"]) == (pytest.approx(expected.value), 2)
    assert one(found, arm="dynadiag", metric="p_value")["value"] == pytest.approx(expected.p)


def test_a_method_is_not_compared_with_itself_or_with_what_was_not_trained() -> None:
    found = rows(arm("rigl"), arm("dynadiag"))
    compared = {(row["arm"], row["baseline"]) for row in found if row["baseline"]}
    assert compared == {("dynadiag", "rigl")}


def test_a_failure_keeps_its_reason() -> None:
    found = rows(arm("rigl"), Arm("dynadiag", [], failure="it diverged"))
    row = one(found, arm="dynadiag")
    assert (row["status"], row["reason"], row["value"]) == ("failed", "it diverged", None)


def test_the_search_is_told() -> None:
    found = rows(arm("rigl"))
    row = one(found, metric="learning_rate")
    assert (row["value"], row["n"]) == (3e-3, 1)
    assert row["config"] == "validation loss 0.1, accuracy 0.9500"


def test_a_method_that_diverged_in_one_seed_has_failed() -> None:
    lost = arm("dynadiag")
    run, result = lost.runs[1]
    nothing = {"accuracy": math.nan, "loss": math.nan}
    runs = [lost.runs[0], (run, replace(result, test=nothing)), lost.runs[2]]
    found = rows(arm("rigl"), replace(lost, runs=runs))
    row = one(found, arm="dynadiag")
    assert (row["status"], row["value"]) == ("failed", None)
    assert row["reason"] == "the training diverged in 1 of 3 seeds"
    assert not [row for row in found if row["baseline"] == "dynadiag"]
