from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dynadiag.bench.clocks import HostStamp
from dynadiag.bench.paired import FLOOR, PRECISIONS, Precision, paired

pytest_plugins = ["pytester"]

STEADY = Precision(0.5, pilot=0, least=24, cap=24, warmup=2, budget_s=10.0, hard_cap_s=20.0)


class VirtualStamp:
    """A clock that only arms move, in exact steps."""

    now = 0.0

    def __init__(self) -> None:
        self.seconds = VirtualStamp.now

    def __sub__(self, start: VirtualStamp, /) -> float:
        return self.seconds - start.seconds


def takes(seconds: float) -> Callable[[], None]:
    def arm() -> None:
        VirtualStamp.now += seconds

    return arm


@pytest.mark.benchmark(timer=VirtualStamp)
def test_each_arm_gets_its_own_time_once_a_round(benchmark: BenchmarkFixture) -> None:
    arms = {"subject": takes(1.0), "slow": takes(2.0), "slower": takes(4.0)}
    found = paired(benchmark, arms, seed=0, precision=STEADY, stamp=VirtualStamp)
    assert found is not None
    assert list(found.samples) == ["subject", "slow", "slower"]
    assert found.rounds == len(found.order) == 24
    for seconds, samples in zip((1.0, 2.0, 4.0), found.samples.values(), strict=True):
        assert samples.tolist() == [seconds] * 24
    assert set(map(frozenset, found.order)) == {frozenset({0, 1, 2})}
    assert found.flags == ()


@pytest.mark.benchmark(timer=HostStamp)
def test_arms_run_in_the_recorded_order_each_after_a_flush(benchmark: BenchmarkFixture) -> None:
    log: list[object] = []
    arms = {f"arm{i}": lambda i=i: log.append(i) for i in range(4)}
    found = paired(benchmark, arms, seed=7, precision=STEADY, flush=lambda: log.append("flush"))
    assert found is not None
    calls = log[-8 * found.rounds :]
    assert calls[::2] == ["flush"] * (4 * found.rounds)
    assert calls[1::2] == [arm for order in found.order for arm in order]


@pytest.mark.benchmark(timer=HostStamp)
def test_results_are_released_outside_the_timed_interval(benchmark: BenchmarkFixture) -> None:
    class SlowToFree:
        def __del__(self) -> None:
            time.sleep(0.002)

    found = paired(benchmark, {"a": SlowToFree, "b": SlowToFree}, seed=0, precision=STEADY)
    assert found is not None
    assert max(np.median(samples) for samples in found.samples.values()) < 0.001


@pytest.mark.benchmark(timer=HostStamp)
def test_the_subject_has_no_more_overhead_than_the_others(benchmark: BenchmarkFixture) -> None:
    many = Precision(1.0, pilot=0, least=2000, cap=2000, warmup=5, budget_s=30.0, hard_cap_s=30.0)
    arms = {name: (lambda: None) for name in ("subject", "other", "another")}
    found = paired(benchmark, arms, seed=0, precision=many)
    assert found is not None
    subject, *others = (np.median(samples) for samples in found.samples.values())
    assert subject == pytest.approx(np.mean(others), rel=0.2)


def precision(**changes: float) -> Precision:
    fields: dict[str, Any] = {
        "target": 0.01,
        "pilot": 20,
        "least": 30,
        "cap": 60,
        "warmup": 2,
        "budget_s": 60.0,
        "hard_cap_s": 60.0,
    }
    return Precision(**(fields | changes))


@pytest.mark.benchmark(timer=VirtualStamp)
def test_the_pilot_is_discarded(benchmark: BenchmarkFixture) -> None:
    calls = 0

    def settles() -> None:
        nonlocal calls
        calls += 1
        VirtualStamp.now += 100.0 if calls <= 44 else 1.0  # warm-up and pilot: 22 rounds of 2 calls

    arms = {"a": settles, "b": takes(1.0)}
    found = paired(benchmark, arms, seed=0, precision=precision(), stamp=VirtualStamp)
    assert found is not None
    assert found.samples["a"].tolist() == [1.0] * found.rounds


@pytest.mark.benchmark(timer=VirtualStamp)
def test_noise_takes_the_cap_and_is_flagged(benchmark: BenchmarkFixture) -> None:
    rng = np.random.default_rng(0)

    def wild() -> None:
        VirtualStamp.now += rng.lognormal(0.0, 0.3)

    arms = {"a": wild, "b": takes(1.0)}
    found = paired(benchmark, arms, seed=0, precision=precision(), stamp=VirtualStamp)
    assert found is not None
    assert found.rounds == 60
    assert found.flags == ("precision_not_reached",)


@pytest.mark.benchmark(timer=HostStamp)
def test_a_big_case_stays_near_its_budget(benchmark: BenchmarkFixture) -> None:
    calls = 0

    def big() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.005)

    limits = precision(budget_s=0.02, target=1e-9)
    found = paired(benchmark, {"a": big, "b": big}, seed=0, precision=limits)
    assert found is not None
    assert found.rounds == FLOOR
    assert calls == 2 * 2 * (FLOOR + 2)  # each timed call after an untimed one
    assert found.flags == ("precision_not_reached",)


@pytest.mark.benchmark(timer=HostStamp)
def test_the_hard_cap_goes_below_the_floor(benchmark: BenchmarkFixture) -> None:
    limits = precision(budget_s=0.001, hard_cap_s=0.01)
    found = paired(benchmark, {"a": lambda: time.sleep(0.02)}, seed=0, precision=limits)
    assert found is not None
    assert found.rounds == 1


@pytest.mark.benchmark(timer=VirtualStamp)
def test_samples_of_several_calls_are_divided(benchmark: BenchmarkFixture) -> None:
    arms = {"a": takes(6.0), "b": takes(6.0), "c": takes(6.0)}
    counts = {"a": 3, "c": 2}
    found = paired(benchmark, arms, seed=0, precision=STEADY, stamp=VirtualStamp, iterations=counts)
    assert found is not None
    assert {name: set(samples) for name, samples in found.samples.items()} == {
        "a": {2.0},
        "b": {6.0},
        "c": {3.0},
    }


def test_no_arms_is_an_error() -> None:
    untouched: Any = None
    with pytest.raises(ValueError, match="no arms"):
        paired(untouched, {}, seed=0, precision=STEADY)


def test_modes_are_ordered_by_cost() -> None:
    quick, full = PRECISIONS["quick"], PRECISIONS["full"]
    assert quick.target > full.target
    assert quick.budget_s < full.budget_s
    assert all(FLOOR <= p.pilot <= p.least <= p.cap for p in PRECISIONS.values())


SUITE = """
import pytest
from dynadiag.bench.clocks import HostStamp
from dynadiag.bench.paired import PRECISIONS, paired

@pytest.mark.benchmark(timer=HostStamp)
def test_case(benchmark):
    calls = []
    arms = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    assert paired(benchmark, arms, seed=0, precision=PRECISIONS["quick"]) is None
    assert sorted(calls) == ["a", "b"]
"""


def test_disabled_benchmarks_call_every_arm_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    pytester.runpytest_inprocess("--benchmark-disable").assert_outcomes(passed=1)


# The timer is an option of pytest-benchmark's marker, which a decorator fixes for all cases of a
# test function. A marker of the parameter is one of the case; the function must have none, as its
# own would win.
TWO_CLOCKS = """
import pytest
from dynadiag.bench.paired import Precision, paired

class Clock:
    ticks = 0.0
    def __init__(self):
        type(self).ticks += self.step
        self.at = self.ticks
    def __sub__(self, start):
        return self.at - start.at

class Seconds(Clock):
    step = 1.0

class Minutes(Clock):
    step = 60.0

CLOCKS = {"seconds": Seconds, "minutes": Minutes}
FEW = Precision(0.5, pilot=0, least=12, cap=12, warmup=2, budget_s=10.0, hard_cap_s=20.0)

def pytest_generate_tests(metafunc):
    cases = [
        pytest.param(name, marks=pytest.mark.benchmark(timer=clock))
        for name, clock in CLOCKS.items()
    ]
    metafunc.parametrize("case", cases)

def test_case(benchmark, case):
    arms = {"a": lambda: None, "b": lambda: None}
    found = paired(benchmark, arms, seed=0, precision=FEW, stamp=CLOCKS[case])
    for samples in found.samples.values():
        assert set(samples) == {CLOCKS[case].step}
"""


def test_each_case_may_have_its_own_timer(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TWO_CLOCKS)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


# What paired() relies on in pytest-benchmark beyond its documented interface.


@pytest.mark.benchmark(timer=VirtualStamp)
def test_pytest_benchmark_keeps_the_contract(benchmark: BenchmarkFixture) -> None:
    log: list[str] = []

    def target() -> None:
        log.append("target")
        VirtualStamp.now += 3.0

    assert benchmark.enabled is True
    assert benchmark.stats is None
    fixture: Any = benchmark
    fixture.pedantic(
        target,
        setup=lambda: log.append("setup"),
        teardown=lambda: log.append("teardown"),
        rounds=4,
    )
    assert log == ["setup", "target", "teardown"] * 4
    assert fixture.stats.stats.data == [3.0] * 4
