from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiag.dst.schedules import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Linear,
    Schedule,
    Step,
    WarmupCosine,
)

levels = st.floats(1e-3, 100)
totals = st.integers(2, 60)
ratios = st.floats(0, 1)


def _run(schedule: Schedule, total: int) -> list[float]:
    return [schedule(step, total) for step in range(total)]


@given(levels, levels, totals, st.integers(0, 20), st.integers(1, 5))
def test_every_ramp_starts_on_its_first_value_and_ends_on_its_last(
    start: float, end: float, total: int, warmup: int, cycles: int
) -> None:
    ramps: list[Schedule] = [Linear(start, end), Cosine(start, end), Cyclic(start, end, cycles)]
    total = max(total, 2 * cycles)
    for schedule in ramps:
        assert schedule(0, total) == start
        assert schedule(total - 1, total) == end
    warm = WarmupCosine(start, 2 * start, end, warmup)
    assert warm(0, total + warmup) == (start if warmup else 2 * start)
    assert warm(warmup, total + warmup) == 2 * start
    assert warm(total + warmup - 1, total + warmup) == end


@given(levels, levels, totals)
def test_linear_and_cosine_move_one_way(start: float, end: float, total: int) -> None:
    sign = 1 if end >= start else -1
    for schedule in (Linear(start, end), Cosine(start, end)):
        values = _run(schedule, total)
        slack = 1e-12 * max(start, end)
        assert all(sign * (b - a) >= -slack for a, b in pairwise(values))


@given(levels, ratios, st.floats(0.5, 1), totals, st.integers(1, 10))
def test_decays_fall_by_their_factor_down_to_their_end(
    start: float, ratio: float, gamma: float, total: int, every: int
) -> None:
    end = start * ratio
    each = _run(Exponential(start, end, gamma), total)
    some = _run(Step(start, end, gamma, every), total)
    assert each[0] == some[0] == start
    assert min(each) >= end
    for a, b in pairwise(each):
        assert b == pytest.approx(max(end, a * gamma))
    for step, value in enumerate(some):
        assert value == pytest.approx(max(end, start * gamma ** (step // every)))


def test_cosine_is_the_published_formula() -> None:
    high, low, total = 5.0, 0.05, 100
    for step, value in enumerate(_run(Cosine(high, low), total)):
        angle = math.pi * step / (total - 1)
        assert value == pytest.approx(low + 0.5 * (high - low) * (1 + math.cos(angle)))


def test_cycles_repeat_and_the_last_takes_the_rest() -> None:
    values = _run(Cyclic(1.0, 0.0, 3), 20)
    assert values[:6] == values[6:12] == _run(Cosine(1.0, 0.0), 6)
    assert values[12:] == _run(Cosine(1.0, 0.0), 8)


@given(st.integers(1, 8), st.integers(1, 8))
def test_more_cycles_than_steps_still_give_values_in_range(cycles: int, total: int) -> None:
    assert all(0 <= value <= 1 for value in _run(Cyclic(1.0, 0.0, cycles), total))


@given(levels, levels, levels, totals, st.integers(0, 20))
def test_every_value_lies_within_the_bounds(
    start: float, peak: float, end: float, total: int, warmup: int
) -> None:
    high, low = max(start, end), min(start, end)
    schedules = [
        Constant(start),
        Cyclic(start, end, 2),
        Exponential(high, low, 0.9),
        Step(high, low, 0.5, 3),
        WarmupCosine(start, peak, end, warmup),
    ]
    for schedule in schedules:
        least, most = schedule.bounds()
        slack = 1e-12 * most
        assert all(least - slack <= value <= most + slack for value in _run(schedule, total))


def test_a_run_shorter_than_the_warm_up_ends_on_the_way_up() -> None:
    assert _run(WarmupCosine(0.0, 1.0, 0.5, warmup=10), 3) == [0.0, 0.1, 0.2]


def test_the_last_value_stays_after_the_end() -> None:
    assert Linear(1.0, 0.0)(1000, 10) == 0.0
    assert Constant(3.0)(1000, 10) == 3.0


def test_a_single_step_is_the_first_one() -> None:
    assert Linear(1.0, 0.0)(0, 1) == Cosine(1.0, 0.0)(0, 1) == Cyclic(1.0, 0.0, 1)(0, 1) == 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(1.0, 0.0)(0, 0), "total_steps is 0, but a run has at least 1 step"),
        (lambda: Linear(1.0, 0.0)(-1, 5), "step is -1, but steps are counted from 0"),
        (lambda: Exponential(1.0, 0.1, 0.0), r"gamma is 0.0, .* in \(0, 1\]"),
        (lambda: Step(1.0, 0.1, 1.5, 3), r"gamma is 1.5, .* in \(0, 1\]"),
        (lambda: Exponential(0.1, 1.0, 0.9), "start is 0.1 and end is 1.0, .* use Linear or"),
        (lambda: Step(1.0, 0.1, 0.9, 0), "every is 0, but must be at least 1"),
        (lambda: WarmupCosine(0.0, 1.0, 0.0, -1), "warmup is -1, but must be at least 0"),
        (lambda: Cyclic(1.0, 0.0, 0), "cycles is 0, but must be at least 1"),
    ],
)
def test_bad_schedules_say_what_is_wrong(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=message):
        build()
