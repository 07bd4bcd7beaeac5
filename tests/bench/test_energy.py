from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dynadiag.bench.energy import Energy, EnergyMeter, NoEnergy
from dynadiag.bench.nvml import NullNvml, Nvml
from dynadiag.bench.nvml_energy import NvmlCounter

from .fake_nvml import UUID, FakeNvml


class Scripted(EnergyMeter):
    """Idles at the given powers, one after the other, and draws 100 W under load."""

    def __init__(self, *idle_watts: float | None, gross_j: float | None = 500.0) -> None:
        self.idle, self.gross_j = list(idle_watts), gross_j
        self.asked: list[float] = []

    def idle_watts(self, seconds: float = 5.0) -> float | None:
        self.asked.append(seconds)
        return self.idle.pop(0)

    def window(
        self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
    ) -> Energy:
        call()
        return Energy(self.gross_j, None, seconds, 10, "rapl", flags=("doubt",))


def test_energy_and_time_of_one_call_come_from_the_same_window() -> None:
    found = Energy(50.0, 40.0, 5.0, 20, "rapl")
    assert (found.gross_j_per_iteration, found.net_j_per_iteration) == (2.5, 2.0)
    assert (found.seconds_per_iteration, found.watts) == (0.25, 10.0)
    assert found.flags == ()


def test_an_unknown_energy_is_null_throughout() -> None:
    found = Energy(None, None, 0.0, 0, "none", "no counter")
    assert (found.gross_j_per_iteration, found.net_j_per_iteration) == (None, None)
    assert (found.seconds_per_iteration, found.watts) == (None, None)


def test_idling_before_and_after_is_averaged() -> None:
    meter, calls = Scripted(20.0, 30.0), [0]
    found = meter.between_idles(lambda: calls.append(1), seconds=4.0, idle_seconds=3.0)
    assert (found.gross_j, found.net_j) == (500.0, 500.0 - 25.0 * 4.0)
    assert (found.iterations, found.flags) == (10, ("doubt",))
    assert (meter.asked, calls) == ([3.0, 3.0], [0, 1])


@pytest.mark.parametrize(
    "meter",
    [Scripted(None, 30.0), Scripted(20.0, None), Scripted(20.0, 30.0, gross_j=None)],
    ids=["before", "after", "window"],
)
def test_one_unknown_leaves_the_net_energy_unknown(meter: Scripted) -> None:
    found = meter.between_idles(lambda: None)
    assert (found.gross_j, found.net_j) == (meter.gross_j, None)


def test_the_device_chooses_the_meter(tmp_path: Path, card: FakeNvml) -> None:
    nvml = Nvml.open(UUID, library=card)
    assert isinstance(EnergyMeter.open(tmp_path, device="cuda", nvml=nvml), NvmlCounter)
    processor = EnergyMeter.open(tmp_path, nvml=nvml)
    assert isinstance(processor, NoEnergy)
    assert "RAPL" in processor.reason


def test_no_card_is_null_with_the_reason_and_runs_nothing() -> None:
    meter = EnergyMeter.open(device="cuda", nvml=NullNvml("Driver Not Loaded"))
    assert meter.between_idles(pytest.fail) == Energy(
        None, None, 0.0, 0, "none", "Driver Not Loaded"
    )
