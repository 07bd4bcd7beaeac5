"""Speedups by the fast tails of the times."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from dynadiag.bench.records import Run, blank_row
from dynadiag.compare.config import Config
from dynadiag.compare.tails import YARDSTICK, read_tails

from .fake_runs import HEADER, columns

SECONDS = {"dense": 8e-3, "dense_again": 8e-3, "csr_torch": 2e-3, "diagonal": 1e-3}


def run(seconds: dict[str, float], **more: Any) -> Run:
    time = {"metric": "time", "unit": "s", "n": 200}
    rows = [
        blank_row(**columns(0), **time, arm=arm, stat=stat, value=factor * value, **more)
        for arm, value in seconds.items()
        for stat, factor in (("median", 3.0), ("p05", 1.0), ("p95", 9.0))
    ]
    return Run(HEADER, rows, Path("run"))


def test_subjects_are_held_against_all_baselines_together_and_others_against_the_anchor() -> None:
    table = read_tails(run(SECONDS), Config())
    found = {key[1:]: cell.ratio.value for key, cell in table.cells.items()}
    assert found == {
        ("diagonal", YARDSTICK): pytest.approx(4),
        ("csr_torch", "dense"): pytest.approx(4),
        ("dense_again", "dense"): pytest.approx(1),
    }


def test_slow_calls_do_not_count() -> None:
    one, two = run(SECONDS), run(SECONDS)
    for row in two.rows:
        if row["stat"] != "p05":
            row["value"] *= 7
    assert read_tails(one, Config()).cells.keys() == read_tails(two, Config()).cells.keys()
    pairs = zip(
        read_tails(one, Config()).cells.values(),
        read_tails(two, Config()).cells.values(),
        strict=True,
    )
    assert all(a.ratio == b.ratio for a, b in pairs)


def test_one_process_claims_nothing_and_passes_doubts_on() -> None:
    table = read_tails(run(SECONDS, flags=["throttled", "peak_differs"]), Config())
    for cell in table.cells.values():
        assert math.isinf(cell.ratio.hi)
        assert cell.flags == ("throttled",)


def test_a_subject_without_baselines_has_no_yardstick() -> None:
    assert read_tails(run({"diagonal": 1e-3}), Config()).cells == {}
