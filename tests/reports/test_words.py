from __future__ import annotations

import math

import pytest

from dynadiag.reports import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.046, "0.046×"),
        (0.83, "0.83×"),
        (1.004, "1.00×"),
        (4.13, "4.1×"),
        (99.6, "100×"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_ratio(value: float, text: str) -> None:
    assert words.ratio(value) == text


def test_seconds_and_sizes_take_the_prefix_that_reads_best() -> None:
    assert words.seconds(0.00123) == "1.23 ms"
    assert words.seconds(2e-6) == "2 µs"
    assert words.size(2_359_296) == "2.36 MB"
    assert words.size(0) == "0 B"
    assert words.size(math.nan) == words.MISSING


def test_spans_and_listings() -> None:
    assert words.span([197, 1, 16, math.nan]) == "1–197"
    assert words.span([7.0]) == "7"
    assert words.span([55.1, 55.2], "{:.0f}") == "55"
    assert words.span([]) == words.MISSING
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(["a"]) == "a"
    assert words.count(1, "case") == "1 case"
    assert words.count(2, "case") == "2 cases"


def test_wrapped_text_fits() -> None:
    lines = words.wrapped("word " * 60, inches=4, points=10).split("\n")

    assert len(lines) > 3
    assert max(map(len, lines)) <= 4 * 72 / 6.4
