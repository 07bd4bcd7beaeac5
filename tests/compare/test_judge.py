from __future__ import annotations

import math
from typing import Any

import pytest

from dynadiag.bench.records import Run
from dynadiag.compare.config import Config
from dynadiag.compare.judge import compare
from dynadiag.compare.outcome import Comparison, ExitCode, Kind, Status

from .fake_runs import Fake, make_run

CONFIG = Config()


def judged(reference: Fake, now: Fake, again: tuple[Run, ...] = ()) -> Comparison:
    return compare(make_run(now), make_run(reference), CONFIG, again)


def test_the_same_again_is_ok() -> None:
    found = judged(Fake(seed=1), Fake(seed=2))
    assert (found.status, found.exit_code) == (Status.OK, ExitCode.OK)
    assert {each.kind for each in found.overall} == {Kind.WITHIN}


def test_a_slower_kernel_shows_in_its_case_and_against_every_baseline() -> None:
    found = judged(Fake(seed=1), Fake(seed=2, slow={("diagonal", 3): 1.3}))
    assert (found.status, found.exit_code) == (Status.REGRESSION, ExitCode.REGRESSION)
    assert {each.baseline for each in found.regressions} == {"csr_torch", "dense"}
    assert {each.name for each in found.regressions} == {"forward-512x2048-b197-float32-s0.5"}
    assert all(each.ratio.value == pytest.approx(1 / 1.3, rel=0.01) for each in found.regressions)


def test_a_faster_kernel_is_an_improvement() -> None:
    found = judged(Fake(seed=1), Fake(seed=2, slow={"diagonal": 0.8}))
    assert found.status is Status.OK
    assert {each.kind for each in found.changes} == {Kind.IMPROVEMENT}


def test_a_uniform_slowdown_shows_in_the_mean_before_it_does_in_any_case() -> None:
    quiet: dict[str, Any] = {"cases": 20, "half": 0.02}
    found = judged(Fake(seed=1, **quiet), Fake(seed=2, slow={"diagonal": 1.08}, **quiet))
    assert {each.kind for each in found.overall} == {Kind.REGRESSION}
    alone = [each for each in found.changes if each.kind is Kind.REGRESSION]
    assert len(alone) < len(found.changes) / 4


def test_a_faster_machine_changes_nothing() -> None:
    everything = dict.fromkeys(("dense", "dense_again", "csr_torch", "diagonal"), 0.5)
    assert judged(Fake(seed=1), Fake(seed=2, slow=everything)).status is Status.OK


def test_a_slowdown_against_one_baseline_alone_is_a_moved_control() -> None:
    found = judged(Fake(seed=1), Fake(seed=2, slow={"csr_torch": 0.8}))
    assert (found.status, found.exit_code) == (Status.NOT_MEASURABLE, ExitCode.NOT_MEASURABLE)
    assert "csr_torch over dense" in found.reasons[0]
    assert not found.regressions


@pytest.mark.parametrize("side", ["reference", "now"])
def test_a_moved_aa_arm_makes_nothing_measurable(side: str) -> None:
    moved = Fake(slow={"dense_again": 1.03, "diagonal": 1.2})
    runs = (moved, Fake()) if side == "reference" else (Fake(), moved)
    found = judged(*runs)
    assert found.status is Status.NOT_MEASURABLE
    assert "A/A arm" in found.reasons[0]


def test_a_run_without_an_aa_arm_makes_nothing_measurable() -> None:
    found = judged(Fake(), Fake(without=("dense_again",), header={"selection": {"arms": "x"}}))
    assert found.status is Status.NOT_MEASURABLE
    assert found.reasons == ("the A/A arm of this run was not measured",)


def test_noise_that_hides_what_must_be_seen_makes_nothing_measurable() -> None:
    found = judged(Fake(cases=2, half=0.2), Fake(cases=2, half=0.2, seed=1))
    assert any("the noise is too strong" in reason for reason in found.reasons)


def test_throttled_cases_are_not_judged() -> None:
    found = judged(Fake(), Fake(slow={"diagonal": 2.0}, flags=("throttled",)))
    assert found.status is Status.NOT_MEASURABLE
    assert any("every case is in doubt: throttled" in reason for reason in found.reasons)
    assert {each.kind for each in found.changes} == {Kind.AMBIGUOUS}


def test_another_device_is_not_compared() -> None:
    device = {"device": {"type": "cpu", "name": "Another", "slug": "another-8c"}}
    found = judged(Fake(), Fake(slow={"diagonal": 3.0}, header=device))
    assert found.exit_code is ExitCode.NOT_MEASURABLE
    assert found.reasons == (
        "another device: the reference is of a-cpu-2c, this run of another-8c",
    )


def test_other_software_is_told_and_compared() -> None:
    software = {"software": {"python": "3.12.1", "torch": "2.12.0"}}
    found = judged(Fake(), Fake(seed=1, header=software))
    assert found.status is Status.OK
    assert [(each.name, each.reference, each.now) for each in found.environment] == [
        ("software.torch", "2.11.0", "2.12.0")
    ]


def test_the_load_of_the_machine_is_no_difference() -> None:
    host = {"host": {"kernel": "6.1", "load_average": [9.0, 9.0, 9.0]}}
    assert judged(Fake(), Fake(header=host)).environment == ()


@pytest.mark.parametrize("status", ["wrong", "failed"])
def test_a_wrong_result_fails_whatever_the_noise(status: str) -> None:
    noisy: dict[str, Any] = {"slow": {"dense_again": 1.1}}
    found = judged(Fake(), Fake(status={("diagonal", 1): status}, **noisy))
    assert found.exit_code is ExitCode.REGRESSION
    assert [(gate.kind, gate.arm) for gate in found.gates] == [("correctness", "diagonal")]


def test_what_was_wrong_before_is_no_news() -> None:
    bad: Any = {"status": {"csr_torch": "failed"}}
    assert judged(Fake(**bad), Fake(**bad, seed=1)).gates == ()


def test_more_bytes_fail_and_fewer_do_not() -> None:
    more = judged(Fake(), Fake(seed=1, bytes={"diagonal": 8193}))
    assert {gate.kind for gate in more.gates} == {"peak_bytes"}
    assert more.gates[0].text == "8,192 B before, 8,193 B now"
    assert judged(Fake(), Fake(seed=1, bytes={"diagonal": 8191})).status is Status.OK


def test_the_bytes_of_other_peoples_arms_are_their_own() -> None:
    assert judged(Fake(), Fake(seed=1, bytes={"dense": 9000})).status is Status.OK


@pytest.mark.parametrize("how", [{"status": {"diagonal": "skipped"}}, {"without": ("diagonal",)}])
def test_an_arm_that_no_longer_runs_fails(how: dict[str, Any]) -> None:
    found = judged(Fake(), Fake(seed=1, **how))
    assert found.status is Status.REGRESSION
    assert {(gate.kind, gate.arm) for gate in found.gates} == {("missing", "diagonal")}


def test_cases_that_were_not_asked_for_are_not_missing() -> None:
    few = {"selection": {"arms": "", "shapes": "", "keyword": "768x768"}}
    assert judged(Fake(cases=6), Fake(cases=5, seed=1, header=few)).gates == ()
    lost = judged(Fake(cases=6), Fake(cases=5, seed=1)).gates
    assert [(gate.kind, gate.name) for gate in lost] == [
        ("missing", "forward-768x3072-b197-float32-s0.8")
    ]


def test_an_empty_run_is_not_measurable() -> None:
    found = judged(Fake(), Fake(cases=0))
    assert found.exit_code is ExitCode.NOT_MEASURABLE
    assert found.reasons == ("no case was measured that can be compared",)


def test_the_reference_may_lack_a_baseline() -> None:
    found = judged(Fake(without=("csr_torch",)), Fake(seed=1))
    assert {each.baseline for each in found.changes} == {"dense"}


def test_fresh_processes_are_averaged_in() -> None:
    slow = make_run(Fake(seed=3, slow={("diagonal", 0): 1.2}, header={"seed": 1}))
    found = judged(Fake(half=1e-4), Fake(half=1e-4), again=(slow,))
    first = next(each for each in found.changes if each.baseline == "dense")
    assert first.ratio.value == pytest.approx(1 / math.sqrt(1.2), rel=0.005)


def test_the_speedup_over_csr_comes_by_way_of_dense() -> None:
    found = judged(Fake(half=1e-6), Fake(half=1e-6))
    over = {each.baseline: each.now.value for each in found.changes[:2]}
    assert over == {"csr_torch": pytest.approx(2, rel=1e-4), "dense": pytest.approx(4, rel=1e-4)}
