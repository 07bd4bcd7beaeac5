from __future__ import annotations

import pytest

from dynadiag.bench.records import Run
from dynadiag.compare.config import Config
from dynadiag.compare.outcome import ExitCode, Kind, Status
from dynadiag.compare.pairs import judge_pairs, needs_more
from dynadiag.compare.tails import YARDSTICK

from .fake_runs import Fake, make_run

CONFIG = Config()


def measured(
    count: int, head: dict[str, object] | None = None, **both: object
) -> list[tuple[Run, Run]]:
    def run(seed: int, fields: dict[str, object]) -> Run:
        return make_run(Fake(**({"cases": 5, "seed": seed} | both | fields)))  # type: ignore[arg-type]

    return [(run(2 * pair, {}), run(2 * pair + 1, head or {})) for pair in range(count)]


def test_equal_sides_are_ok_and_need_no_more() -> None:
    found = judge_pairs(measured(3), CONFIG)
    assert (found.mode, found.pairs, found.status) == ("pairs", 3, Status.OK)
    assert not needs_more(found, CONFIG)


def test_a_slower_head_is_a_regression_by_one_yardstick() -> None:
    found = judge_pairs(measured(6, {"slow": {"diagonal": 1.1}}), CONFIG)
    assert found.exit_code is ExitCode.REGRESSION
    assert [(each.kind, each.baseline) for each in found.overall] == [(Kind.REGRESSION, YARDSTICK)]
    assert {each.baseline for each in found.changes} == {YARDSTICK}


def test_a_regression_ends_them_once_its_interval_is_narrow() -> None:
    quiet, loud = (
        judge_pairs(measured(6, {"slow": {"diagonal": 1.5}}, common=common), CONFIG)
        for common in (0.001, 0.02)
    )
    assert {quiet.status, loud.status} == {Status.REGRESSION}
    assert loud.overall[0].ratio.half_width > CONFIG.limits.warn
    assert not needs_more(quiet, CONFIG)
    assert needs_more(loud, CONFIG)


def test_a_single_case_that_looks_slower_needs_more() -> None:
    one_slow: dict[str, object] = {"slow": {("diagonal", 2): 1.08}}
    found = judge_pairs(measured(4, one_slow, process=0.01), CONFIG)
    assert found.status is Status.OK
    assert needs_more(found, CONFIG)


def test_between_three_and_five_per_cent_only_all_cases_together_fail() -> None:
    found = judge_pairs(measured(4, {"slow": {"diagonal": 1.045}}), CONFIG)
    assert found.regressions == found.overall


def test_a_baseline_that_one_commit_lacks_is_no_part_of_the_yardstick() -> None:
    found = judge_pairs(measured(3, {"without": ()}, without=("csr_torch",)), CONFIG)
    assert found.status is Status.OK
    assert all(each.now.value == pytest.approx(4, rel=0.02) for each in found.changes)


def test_the_process_is_the_unit() -> None:
    noisy = judge_pairs(measured(4, process=0.03, half=1e-4), CONFIG)
    # Each process is sure of itself to 0.01 %; the processes differ by 3 %.
    assert all(each.ratio.half_width > 0.01 for each in noisy.changes)


def test_one_pair_says_nothing_of_time_and_needs_more() -> None:
    found = judge_pairs(measured(1, {"slow": {"diagonal": 1.5}}), CONFIG)
    assert found.status is Status.NOT_MEASURABLE
    assert "unknown at best" in found.reasons[-1]
    assert needs_more(found, CONFIG)


def test_an_allocation_in_every_process_fails_and_needs_no_more() -> None:
    found = judge_pairs(measured(3, {"bytes": {"diagonal": 9000}}), CONFIG)
    assert {gate.kind for gate in found.gates} == {"peak_bytes"}
    assert not needs_more(found, CONFIG)


def test_an_allocation_in_one_process_is_chance() -> None:
    pairs = [*measured(2), *measured(1, {"bytes": {"diagonal": 9000}})]
    assert judge_pairs(pairs, CONFIG).gates == ()


def test_a_wrong_result_in_one_process_fails() -> None:
    pairs = [*measured(2), *measured(1, {"status": {("diagonal", 2): "wrong"}})]
    assert [gate.kind for gate in judge_pairs(pairs, CONFIG).gates] == ["correctness"]


@pytest.mark.parametrize(
    ("slow", "said"),
    [({"dense_again": 1.05}, "the A/A arm"), ({"csr_torch": 1.2}, "csr_torch over dense")],
)
def test_a_moved_control_makes_nothing_measurable(slow: dict[str, float], said: str) -> None:
    found = judge_pairs(measured(5, {"slow": {"diagonal": 1.2, **slow}}, half=0.001), CONFIG)
    assert found.status is Status.NOT_MEASURABLE
    assert said in found.reasons[0]


def test_a_disturbed_process_costs_its_pair_alone() -> None:
    pairs = [*measured(4), *measured(1, {"flags": ("throttled",), "slow": {"diagonal": 3.0}})]
    found = judge_pairs(pairs, CONFIG)
    assert found.status is Status.OK
    assert {each.ratio.n for each in found.changes} == {4}
