"""Energy windows in turns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynadiag.bench.energy import Energy, EnergyMeter
from dynadiag.bench.regimes import Prepared
from suites.qualify.energy import windows


class Meter(EnergyMeter):
    """Idles at 10 W, then at 20 W; each call counts for a joule and a tenth of a second."""

    def __init__(self, *reasons: str | None) -> None:
        self.idle, self.reasons = iter([10.0, 20.0]), iter(reasons)

    def idle_watts(self, seconds: float = 5.0) -> float | None:
        return next(self.idle)

    def window(
        self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
    ) -> Energy:
        call()
        reason = next(self.reasons, None)
        gross = None if reason else 10 * seconds
        return Energy(gross, None, seconds, int(10 * seconds), "made_up", reason)


def test_arms_are_metered_there_and_back() -> None:
    order: list[str] = []
    calls = {name: Prepared(lambda name=name: order.append(name)) for name in "abc"}  # type: ignore[misc]
    found = windows(Meter(), calls, 3.0)
    assert order == ["a", "b", "c", "c", "b", "a"]
    assert list(found) == ["a", "b", "c"]


def test_both_windows_count_and_idling_is_the_mean_of_before_and_after() -> None:
    energy = windows(Meter(), {"a": Prepared(lambda: None)}, 3.0)["a"]
    assert (energy.gross_j, energy.seconds, energy.iterations) == (60.0, 6.0, 60)
    assert energy.net_j == pytest.approx(60.0 - 15.0 * 6.0)


def test_one_window_without_a_value_leaves_none() -> None:
    energy = windows(Meter(None, "it went back"), {"a": Prepared(lambda: None)}, 3.0)["a"]
    assert (energy.gross_j, energy.net_j, energy.reason) == (None, None, "it went back")
