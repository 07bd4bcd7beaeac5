from __future__ import annotations

import math

import pytest

from dynadiag.bench.thermal import Reading, steady, warm_up

from .fake_cuda import FLOPS, FakeCuda

RATE = 50e12


@pytest.fixture(autouse=True)
def _few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FLOPS, "bfloat16", RATE)


class Card:
    """Warms up as an exponential with this time constant; unknown where asked to be."""

    def __init__(self, cuda: FakeCuda, constant_s: float, known: bool = True) -> None:
        self.cuda, self.constant_s, self.known = cuda, constant_s, known

    @property
    def clocks(self) -> dict[str, int | None]:
        return {"sm": round(1980 - 300 * self._warmth()) if self.known else None, "mem": None}

    @property
    def temperature_c(self) -> int | None:
        return round(30 + 40 * self._warmth()) if self.known else None

    def _warmth(self) -> float:
        return 1 - math.exp(-self.cuda.clock / self.constant_s)


def test_matrices_are_multiplied_until_the_card_is_steady(cuda: FakeCuda) -> None:
    found = warm_up(Card(cuda, constant_s=2.0))
    assert found["steady"] is True
    assert 5 <= found["seconds"] < 12
    assert found["temperature_c"] >= 69
    assert found["sm_mhz"] == pytest.approx(1680, rel=0.02)
    busy = sum(name.startswith("mm") for name in cuda.log) * 2 * 4096**3 / RATE
    assert busy > 0.9 * found["seconds"]


@pytest.mark.parametrize(("constant_s", "known"), [(20.0, True), (2.0, False)])
def test_it_ends_at_the_limit(cuda: FakeCuda, constant_s: float, known: bool) -> None:
    found = warm_up(Card(cuda, constant_s, known), limit_s=6.0)
    assert found["steady"] is False
    assert 6 <= found["seconds"] < 8


@pytest.mark.parametrize(
    ("clocks", "degrees", "expected"),
    [
        ([1980] * 5, [60] * 5, True),
        ([1980] * 5, [60, 60, 60, 60, 61], True),
        ([1980] * 5, [60, 61, 61, 62, 63], False),
        ([1980, 1960, 1940, 1920, 1905], [60] * 5, True),
        ([1980, 1955, 1930, 1905, 1880], [60] * 5, False),
        ([1980] * 4, [60] * 4, False),
        ([1500, *[1980] * 5], [40, *[60] * 5], True),
        ([1980, 1980, None, 1980, 1980], [60] * 5, False),
        ([1980] * 5, [60, 60, None, 60, 60], False),
    ],
    ids=["flat", "a step", "warming", "settled", "slowing", "few", "past", "no clock", "no degree"],
)
def test_slopes(clocks: list[int | None], degrees: list[int | None], expected: bool) -> None:
    readings = [
        Reading(float(i), clock, degree)
        for i, (clock, degree) in enumerate(zip(clocks, degrees, strict=True))
    ]
    assert steady(readings) is expected
