from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dynadiag.bench.seeds import LEVEL, difference, mean


def test_the_interval_is_students() -> None:
    values = [0.91, 0.93, 0.92, 0.95, 0.90]
    found = mean(values)
    lo, hi = stats.t.interval(LEVEL, 4, np.mean(values), stats.sem(values))
    assert found.n == 5
    assert [found.value, found.lo, found.hi] == pytest.approx([np.mean(values), lo, hi])


def test_a_difference_is_paired() -> None:
    ours, theirs = [0.91, 0.81, 0.71], [0.90, 0.79, 0.70]
    found = difference(ours, theirs)
    assert found.value == pytest.approx(0.04 / 3)
    assert found.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_one_seed_has_no_interval() -> None:
    found = mean([0.5])
    assert (found.lo, found.hi, found.p, found.n) == (None, None, None, 1)


@pytest.mark.parametrize("digits", [0, 1, -1])
def test_equal_differences_have_neither_interval_nor_p_value(digits: int) -> None:
    ours = [0.95 + digits / 359, 0.97 + digits / 359]
    found = difference(ours, [0.95, 0.97])
    assert found.value == pytest.approx(digits / 359)
    assert (found.lo, found.hi, found.p, found.n) == (None, None, None, 2)


def test_intervals_cover_as_often_as_they_say() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    covered = 0
    for row in draws:
        found = mean(row.tolist())
        assert found.lo is not None
        assert found.hi is not None
        covered += found.lo <= 0 <= found.hi
    assert 0.93 < covered / 2000 < 0.97


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [([], [], "at least one seed"), ([1.0], [1.0, 2.0], "one of each for every seed")],
)
def test_bad_input(ours: list[float], theirs: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference(ours, theirs)
