from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dynadiag.bench.statistics import Interval, Verdict
from dynadiag.compare.config import Config, Override
from dynadiag.compare.outcome import ALL_CASES, Change, Kind
from dynadiag.compare.verdicts import Estimate, change, discoveries, settle, standard_error

CONFIG = Config()
ONE = Interval(1.0, 1.0, 1.0, 30, 0.99)


def make_change(
    ratio: float, error: float = 0.002, *, case: str = "c", baseline: str = "dense", note: str = ""
) -> Change:
    columns = {"case_id": case, "arm": "diagonal", "baseline": baseline, "batch": 1}
    moved = Estimate(math.log(ratio), error)
    return change(columns, case, ONE, ONE, moved, CONFIG, note)


@pytest.mark.parametrize(
    ("ratio", "kind", "found"),
    [
        (1.0, Kind.WITHIN, Verdict.SAME),
        (0.985, Kind.WITHIN, Verdict.SLOWER),
        (0.99, Kind.WITHIN, Verdict.AMBIGUOUS),
        (0.96, Kind.WARNING, Verdict.SLOWER),
        (0.9, Kind.REGRESSION, Verdict.SLOWER),
        (1.1, Kind.IMPROVEMENT, Verdict.FASTER),
    ],
)
def test_kinds_follow_the_limits(ratio: float, kind: Kind, found: Verdict) -> None:
    (settled,) = settle([make_change(ratio)], CONFIG)
    assert (settled.kind, settled.verdict) == (kind, found)


def test_a_regression_needs_its_whole_interval_beyond_the_limit() -> None:
    (settled,) = settle([make_change(0.9, error=0.025)], CONFIG)
    assert settled.ratio.hi > 0.95
    assert settled.kind is not Kind.REGRESSION


def test_a_slowdown_against_one_baseline_alone_is_that_baselines_doing() -> None:
    both = [make_change(0.9, baseline="csr_torch"), make_change(1.0, baseline="dense")]
    settled = settle(both, CONFIG)
    assert [each.kind for each in settled] == [Kind.AMBIGUOUS, Kind.WITHIN]
    assert settled[0].note == "not so against dense"


def test_a_baseline_too_noisy_to_show_a_regression_excuses_it() -> None:
    both = [make_change(0.97, 0.03, baseline="csr_torch"), make_change(0.9, baseline="dense")]
    settled = settle(both, CONFIG)
    assert {each.kind for each in settled} == {Kind.AMBIGUOUS}


def test_a_doubtful_baseline_does_not_excuse_a_regression() -> None:
    both = [make_change(0.9, baseline="csr_torch"), make_change(1.0, note="throttled")]
    assert [each.kind for each in settle(both, CONFIG)] == [
        Kind.REGRESSION,
        Kind.AMBIGUOUS,
    ]


def test_one_unlikely_case_among_many_is_no_discovery() -> None:
    suspect = replace(make_change(0.93, error=0.005), p=0.004)
    others = [make_change(1.0, case=str(number)) for number in range(40)]
    assert settle([suspect], CONFIG)[0].kind is Kind.REGRESSION
    assert settle([suspect, *others], CONFIG)[0].kind is Kind.WARNING


def test_overrides_move_the_limit_of_their_cases() -> None:
    config = Config(overrides=(Override({"batch": 1}, {"fail": 0.2}),))
    moved = Estimate(math.log(0.9), 0.002)
    columns = {"case_id": "c", "arm": "diagonal", "baseline": "dense", "batch": 1}
    (settled,) = settle([change(columns, "c", ONE, ONE, moved, config)], config)
    assert settled.kind is Kind.WARNING


def test_all_cases_together_have_a_limit_of_their_own() -> None:
    config = Config(overall=0.03, overrides=(Override({"arm": "diagonal"}, {"fail": 0.2}),))
    moved, columns = Estimate(math.log(0.96), 0.002), {"arm": "diagonal", "baseline": "dense"}
    (settled,) = settle([change(columns, ALL_CASES, ONE, ONE, moved, config)], config)
    assert settled.kind is Kind.REGRESSION
    assert make_change(0.96).p > 0.99


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    # The worked example of their article: 15 p-values, 4 discoveries at 5 %.
    ps = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    ps += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert discoveries(ps, 0.05) == 0.0095
    assert discoveries([0.2, 0.9], 0.05) == -1
    assert discoveries([], 0.05) == -1


def test_one_process_has_no_interval() -> None:
    alone = Estimate.of([0.1])
    assert alone.interval(0.99).hi == math.inf
    assert alone.p(0.95) == 0.5


def test_equal_processes_have_a_narrow_one() -> None:
    found = Estimate.of([0.1, 0.1, 0.1]).interval(0.99)
    assert found.lo < math.exp(0.1) < found.hi
    assert found.half_width < 1e-6


def test_the_interval_of_three_processes_is_that_of_student() -> None:
    logs = [0.00, 0.01, 0.02]
    half = 9.9248 * 0.01 / math.sqrt(3)
    assert Estimate.of(logs).interval(0.99).hi == pytest.approx(math.exp(0.01 + half), rel=1e-5)


def test_standard_error_undoes_the_interval() -> None:
    assert standard_error(Estimate(0.2, 0.013).interval(0.99)) == pytest.approx(0.013)
