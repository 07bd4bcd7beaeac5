"""Whole qualifications on the CPU: what they keep, whatever happens to a stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dynadiag import kernels
from dynadiag.bench.energy import Energy, EnergyMeter, NoEnergy
from dynadiag.bench.records import read_run
from suites import equipment
from suites import take as taking
from suites.cases import Case
from suites.equipment import Equipment
from suites.measure import Measurement
from suites.qualify import run as qualification
from suites.qualify import session, stages
from suites.qualify.budget import Share
from suites.qualify.command import NotMeasurable, command
from suites.qualify.run import REPORT, Qualification, qualify
from suites.qualify.session import NotHere
from suites.qualify.stages import STAGES, Stage, control, headline, meter_energy

GRID = """
[models]
"Tiny" = ["32x64"]
[modes.control]
precision = "quick"
override = { pilot = 0, least = 12, cap = 12, budget_s = 0.05 }
[[modes.control.grids]]
directions = ["forward"]
shapes = ["Tiny"]
batches = [7]
dtypes = ["float32"]
sparsities = [0.9]
arms = []
[modes.headline]
precision = "quick"
override = { pilot = 0, least = 12, cap = 12, budget_s = 0.05 }
[[modes.headline.grids]]
directions = ["forward", "step"]
shapes = ["Tiny"]
batches = [4]
dtypes = ["float32"]
sparsities = [0.9, 0.5]
arms = ["diagonal", "csr"]
"""
CONTROL = Stage("control", Share(1, 0), control)
HEADLINE = Stage("headline", Share(1, 0, essential=True), headline)
FAST = (CONTROL, HEADLINE)


class Meter(EnergyMeter):
    """Every call takes 2 J and half a second, of which 1 W is idling."""

    def idle_watts(self, seconds: float = 5.0) -> float | None:
        return 1.0

    def window(
        self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
    ) -> Energy:
        call()
        return Energy(4.0, None, 1.0, 2, "made_up")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small wait for their threads more than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(GRID, encoding="utf-8")
    return path


@pytest.fixture
def perform(tmp_path: Path, grid: Path) -> Callable[..., Qualification]:
    def run(*stages: Stage, seconds: float = 3600.0, **more: Any) -> Qualification:
        out = tmp_path / "runs"
        return qualify(seconds, out, Equipment("cpu"), grid=grid, stages=stages, **more)

    return run


def stage(name: str, act: Callable[[], str], least_s: float = 0, most_s: float = 9e9) -> Stage:
    return Stage(name, Share(1, least_s, most_s), lambda *_: act())


def raising(error: BaseException) -> Callable[[], str]:
    def act() -> str:
        raise error

    return act


def statuses(done: Qualification) -> dict[str, str]:
    return {each["name"]: each["status"] for each in done.stages}


def closed(done: Qualification) -> list[str]:
    rows = read_run(done.folder).rows
    return [f"{row['direction']} {row['sparsity']:g}" for row in rows if row["metric"] == "case"]


def test_cases_are_measured_in_their_order_and_the_control_first(
    perform: Callable[..., Qualification],
) -> None:
    done = perform(*FAST)
    order = ["forward 0.9", "forward 0.9", "step 0.9", "forward 0.5", "step 0.5"]
    assert closed(done) == order
    assert done.measured
    assert not done.failed
    header = read_run(done.folder).header
    assert (header["mode"], header["aa"]["cases"]) == ("qualify", 5)
    assert [each["name"] for each in header["stages"]] == ["control", "headline"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("an illegal memory access\nand more"), "failed"),
        (NotHere("nothing to do"), "skipped"),
    ],
)
def test_stages_go_on_after_one_that_cannot(
    error: Exception, status: str, perform: Callable[..., Qualification]
) -> None:
    done = perform(stage("broken", raising(error)), *FAST)
    assert statuses(done) == {"broken": status, "control": "ok", "headline": "ok"}
    assert done.stages[0]["note"].endswith(str(error).partition("\n")[0])
    assert done.failed == (status == "failed")
    assert len(closed(done)) == 5


def test_interruption_keeps_what_was_measured_and_closes_the_records(
    perform: Callable[..., Qualification],
) -> None:
    done = perform(CONTROL, stage("stopped", raising(KeyboardInterrupt())), HEADLINE)
    assert done.interrupted
    assert statuses(done) == {"control": "ok", "stopped": "interrupted"}
    assert read_run(done.folder).header["aa"]["cases"] == 1


def test_stage_that_does_not_end_is_cut_short(
    perform: Callable[..., Qualification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qualification, "GRACE_S", 0.0)
    monkeypatch.setattr(qualification, "REPORT", Share(0, 0))

    def spin() -> str:
        while True:
            pass

    done = perform(stage("endless", spin, most_s=0.1), *FAST)
    assert statuses(done) == {"endless": "cut short", "control": "ok", "headline": "ok"}


def test_without_time_the_headline_is_all_there_is(
    perform: Callable[..., Qualification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qualification, "REPORT", Share(0, 1, essential=True))
    core = replace(HEADLINE, share=Share(1, 3598, essential=True))
    done = perform(stage("first", lambda: "", least_s=2.0), core)
    assert statuses(done) == {"first": "skipped", "headline": "ok"}
    assert done.stages[0]["note"] == "no time was left for it"


def test_headline_ends_before_a_case_that_would_not_fit(
    perform: Callable[..., Qualification],
) -> None:
    # Every look at the clock takes a second, and there is one before each case.
    done = perform(HEADLINE, seconds=REPORT.least_s + 6, clock=itertools.count().__next__)
    assert closed(done) == ["forward 0.9", "step 0.9", "forward 0.5"]
    assert done.stages[0]["note"] == "3 of 4 cases"


def test_case_that_fails_does_not_cost_the_others(
    perform: Callable[..., Qualification], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = taking.take

    def take(case: Case, *words: Any, **more: Any) -> Measurement:
        if case.direction == "step":
            raise RuntimeError("boom")
        return real(case, *words, **more)

    monkeypatch.setattr(session, "take", take)
    done = perform(*FAST)
    assert len(closed(done)) == 5
    failed = [row for row in read_run(done.folder).rows if row["status"] == "failed"]
    assert {row["reason"] for row in failed} == {"RuntimeError: boom"}
    assert done.failed


def test_energy_is_metered_in_windows_of_its_own(
    perform: Callable[..., Qualification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Equipment, "meter", lambda self: Meter())
    done = perform(HEADLINE, Stage("energy", Share(1, 0), meter_energy))
    rows = [row for row in read_run(done.folder).rows if row["unit"] in ("J/iter", "W")]
    known = {(r["arm"], r["stat"]): r["value"] for r in rows if r["value"] is not None}
    assert {arm for arm, _ in known} == {"dense", "csr", "diagonal"}
    assert known[("diagonal", "gross")] == 2.0
    assert known[("diagonal", "net")] == 1.5
    assert known[("diagonal", "mean")] == 4.0


def test_building_the_arms_is_paid_from_the_time_of_the_windows(
    perform: Callable[..., Qualification], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, now = [], [0.0]

    class Asked(Meter):
        def window(
            self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
        ) -> Energy:
            asked.append(seconds)
            return super().window(call, seconds, idle_watts)

    def build(*words: Any) -> Measurement:
        now[0] += 40
        return Measurement(*words)

    monkeypatch.setattr(stages, "Measurement", build)
    monkeypatch.setattr(Equipment, "meter", lambda self: Asked())
    energy = Stage("energy", Share(1, 0), meter_energy)
    perform(energy, seconds=75 + REPORT.least_s, clock=lambda: now[0])
    # 75 s, less 40, less twice 4 of idling: six windows, and a second before each.
    assert asked == pytest.approx([3.5] * 6)


def test_machine_without_a_counter_says_why_energy_is_unknown(
    perform: Callable[..., Qualification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Equipment, "meter", lambda self: NoEnergy("the card is split (MIG)"))
    done = perform(HEADLINE, Stage("energy", Share(1, 0), meter_energy))
    assert done.stages[1]["status"] == "skipped"
    assert done.stages[1]["note"] == "the card is split (MIG)"
    reasons = {r["reason"] for r in read_run(done.folder).rows if r["metric"] == "energy"}
    assert reasons == {"the card is split (MIG)"}


def test_stages_of_a_card_say_what_they_do_elsewhere(
    perform: Callable[..., Qualification],
) -> None:
    done = perform(*(each for each in STAGES if each.name in ("compile", "kernels", "table")))
    assert set(statuses(done).values()) == {"skipped"}
    assert not done.measured


def test_machine_without_a_card_is_told_all_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotMeasurable, match=r"built without CUDA.*; torch sees no CUDA device"):
        command(1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_card_without_cupy_is_told_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = "CuPy is missing; pip install 'dynadiag[cuda13]'"
    monkeypatch.setattr(kernels.get("cuda"), "unavailable", lambda: reason)
    with pytest.raises(NotMeasurable, match="CuPy is missing"):
        command(1, tmp_path)


def test_command_runs_the_stages(tmp_path: Path, grid: Path) -> None:
    done = command(1, tmp_path / "runs", device="cpu", grid=grid, stages=FAST)
    assert statuses(done) == {"control": "ok", "headline": "ok"}


def test_warm_up_is_for_cards_only(
    perform: Callable[..., Qualification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equipment, "warm_up", raising(AssertionError("it was called")))
    (machine,) = (each for each in STAGES if each.name == "machine")
    done = perform(machine)
    assert statuses(done) == {"machine": "ok"}
    assert read_run(done.folder).header["self_checks"]["gemm_gflops"]["float32"] > 0
