from __future__ import annotations

import math

import pytest

from dynadiag.compare import student


# Two-sided 99 %, and one-sided 97.5 %, from printed tables.
@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.995, 1, 63.657),
        (0.995, 2, 9.925),
        (0.995, 3, 5.841),
        (0.995, 7, 3.499),
        (0.975, 4, 2.776),
        (0.975, 30, 2.042),
        (0.975, 120, 1.980),
    ],
)
def test_quantiles_are_those_of_the_tables(
    probability: float, freedom: int, expected: float
) -> None:
    assert student.quantile(probability, freedom) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 41])
def test_cdf_is_symmetrical_and_reaches_its_ends(freedom: int) -> None:
    assert student.cdf(0.0, freedom) == 0.5
    assert student.cdf(1.3, freedom) + student.cdf(-1.3, freedom) == pytest.approx(1)
    assert student.cdf(math.inf, freedom) == pytest.approx(1)
    assert student.cdf(-math.inf, freedom) == pytest.approx(0, abs=1e-12)


def test_two_degrees_of_freedom_have_a_closed_form() -> None:
    t = 1.7
    assert student.cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)))


def test_quantile_undoes_cdf() -> None:
    assert student.quantile(student.cdf(2.5, 5), 5) == pytest.approx(2.5)
