"""Measurements as rows, and the A/A verdict over a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynadiag.bench.energy import Energy
from dynadiag.bench.memory import Peak
from dynadiag.bench.records import blank_row
from dynadiag.bench.watch import Seen
from suites.rows import (
    control,
    energy_rows,
    hedged,
    outside_rows,
    peak_rows,
    seen_rows,
    speedup_row,
    time_rows,
)

NOISE = np.random.default_rng(0).normal(1, 1e-4, (2, 40))


def aa(value: float, lo: float | None, hi: float | None) -> dict[str, Any]:
    row = {"arm": "dense_again", "metric": "speedup", "baseline": "dense", "stat": "x"}
    return blank_row(**row, value=value, ci_lo=lo, ci_hi=hi, ci_level=0.99, n=30)


def test_time_is_a_distribution() -> None:
    rows = {row["stat"]: row for row in time_rows(np.linspace(1, 2, 101))}
    assert list(rows) == ["median", "p05", "p95", "min"]
    assert [rows[stat]["value"] for stat in rows] == pytest.approx([1.5, 1.05, 1.95, 1.0])
    assert rows["median"]["ci_lo"] < 1.5 < rows["median"]["ci_hi"]
    assert all(row["n"] == 101 for row in rows.values())


def test_interval_of_too_few_samples_is_null() -> None:
    median = next(iter(time_rows(np.array([1.0, 2.0, 3.0]))))
    assert (median["value"], median["ci_lo"], median["ci_hi"]) == (2.0, None, None)


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "FASTER"), (1.0, "SAME"), (2.0, "SLOWER")])
def test_speedup_is_the_baseline_over_the_arm(factor: float, verdict: str) -> None:
    row = speedup_row(factor * NOISE[0], "dense", NOISE[1])
    assert row["value"] == pytest.approx(1 / factor, rel=1e-3)
    assert (row["verdict"], row["baseline"]) == (verdict, "dense")


def test_few_calls_allow_only_a_coarse_verdict() -> None:
    baselines = {"dense": np.array([1.0]), "csr": np.array([4.0])}
    time, dense, csr = outside_rows(np.array([5.0, 6.0, 5.0]), baselines)
    assert (time["value"], time["n"], time["flags"]) == (5.0, 3, ["outside_rounds"])
    assert (dense["value"], dense["verdict"]) == (0.2, "SLOWER")
    assert (csr["value"], csr["verdict"]) == (0.8, "AMBIGUOUS")
    assert "ci_lo" not in csr


def test_peak_that_differs_between_repeats_is_flagged() -> None:
    (differs,), (unknown,) = peak_rows(Peak(8, "repeats differ")), peak_rows(Peak(None, "no word"))
    assert differs["flags"] == ["peak_differs"]
    assert unknown["flags"] == []


def test_peaks_of_a_card_are_three() -> None:
    sizes = {row["metric"]: row["value"] for row in peak_rows(Peak(8, None, 16, 0))}
    assert sizes == {"peak_bytes": 8, "peak_reserved": 16, "device_used": 0}


def energies(energy: Energy, calls: int = 1) -> dict[tuple[str, str], Any]:
    return {(row["metric"], row["stat"]): row["value"] for row in energy_rows(energy, calls)}


def test_energy_is_that_of_one_call_with_its_time_and_power() -> None:
    found = energies(Energy(10.0, 8.0, 5.0, 4, "rapl"), calls=2)
    assert found[("energy", "gross")] == 1.25
    assert found[("energy", "net")] == 1.0
    assert found[("power", "mean")] == 2.0
    assert found[("time", "sustained")] == 5.0 / 8


def test_net_energy_needs_the_idle_power() -> None:
    assert ("energy", "net") not in energies(Energy(10.0, None, 5.0, 4, "rapl"))


def test_unknown_energy_is_null_with_its_reason_and_never_zero() -> None:
    (row,) = energy_rows(Energy(None, None, 0.0, 0, "none", "no counter"))
    assert (row["value"], row["reason"]) == (None, "no counter")


def test_doubts_about_the_energy_are_flags() -> None:
    gross, *_ = energy_rows(Energy(10.0, None, 5.0, 4, "x", None, ("energy_disagrees",)))
    assert gross["flags"] == ["energy_disagrees"]


def test_clock_and_temperature_are_those_after_the_case() -> None:
    facts = {"sm_mhz": [1980, 1755], "temperature_c": [None, None]}
    (row,) = seen_rows(Seen(("power_capped",), facts))
    assert (row["metric"], row["value"], row["flags"]) == ("sm_clock", 1755, ["power_capped"])
    assert list(seen_rows(Seen((), {}))) == []


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        ([], "FASTER"),
        (["power_capped"], "FASTER"),
        (["launch_bound"], "AMBIGUOUS"),
        (["unresolved"], "AMBIGUOUS"),
        (["throttled", "power_capped"], "AMBIGUOUS"),
    ],
)
def test_doubtful_time_allows_no_verdict(flags: list[str], verdict: str) -> None:
    assert hedged({"flags": flags, "verdict": "FASTER", "value": 3.0}) == {
        "flags": flags,
        "verdict": verdict,
        "value": 3.0,
    }


def test_control_that_is_same_clears_the_run() -> None:
    found = control([aa(1.001, 0.998, 1.004), aa(0.999, 0.996, 1.002)])
    assert not found["suspect"]
    assert (found["aa"]["verdict"], found["aa"]["cases"], found["aa"]["n"]) == ("SAME", 2, 60)


def test_control_that_differs_makes_the_run_suspect() -> None:
    found = control([aa(1.05, 1.04, 1.06), aa(1.05, 1.04, 1.06)])
    assert (found["aa"]["verdict"], found["suspect"]) == ("FASTER", True)


def test_run_without_control_is_suspect() -> None:
    assert control([]) == {"aa": None, "suspect": True}
    assert control([aa(1.0, None, None)])["aa"] is None
