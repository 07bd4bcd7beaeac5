from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dynadiag.bench.energy import EnergyMeter, NoEnergy
from dynadiag.bench.rapl import Rapl

RANGE = 1_000_000_000


def add_counter(root: Path, folder: str, name: str, start: int = 0) -> Path:
    path = root / folder
    path.mkdir()
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (path / "energy_uj").write_text(f"{start}\n")
    return path / "energy_uj"


def spends(counter: Path, microjoules: int) -> Callable[[], None]:
    def call() -> None:
        counter.write_text(str((int(counter.read_text()) + microjoules) % RANGE))

    return call


def test_a_window_divides_the_joules_by_its_calls(tmp_path: Path) -> None:
    counter = add_counter(tmp_path, "intel-rapl:0", "package-0", start=500)
    found = EnergyMeter.open(tmp_path).window(spends(counter, 3_000_000), seconds=0.02)
    assert found.method == "rapl"
    assert found.iterations > 1
    assert found.seconds >= 0.02
    assert found.gross_j_per_iteration == pytest.approx(3.0)
    assert (found.net_j, found.net_j_per_iteration, found.reason) == (None, None, None)


def test_the_counter_may_start_again(tmp_path: Path) -> None:
    counter = add_counter(tmp_path, "intel-rapl:0", "package-0", start=RANGE - 1_000_000)
    found = EnergyMeter.open(tmp_path).window(spends(counter, 5_000_000), seconds=0.0)
    assert found.gross_j == pytest.approx(5.0)


def test_packages_add_up_and_their_parts_do_not(tmp_path: Path) -> None:
    first = add_counter(tmp_path, "intel-rapl:0", "package-0")
    second = add_counter(tmp_path, "intel-rapl:1", "package-1")
    core = add_counter(tmp_path, "intel-rapl:0:0", "core")
    platform = add_counter(tmp_path, "intel-rapl:2", "psys")

    def call() -> None:
        for counter in (first, second, core, platform):
            spends(counter, 1_000_000)()

    assert EnergyMeter.open(tmp_path).window(call, seconds=0.0).gross_j == pytest.approx(2.0)


def test_idling_is_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = add_counter(tmp_path, "intel-rapl:0", "package-0")
    meter = EnergyMeter.open(tmp_path)
    sleep = time.sleep

    def sleeps(seconds: float) -> None:
        sleep(seconds)
        spends(counter, 200_000)()

    monkeypatch.setattr(time, "sleep", sleeps)
    watts = meter.idle_watts(0.02)
    assert watts is not None
    assert 2.0 < watts <= 10.0  # 0.2 J in 0.02 s or a little more
    found = meter.window(spends(counter, 1_000_000), seconds=0.0, idle_watts=watts)
    assert found.net_j == pytest.approx(1.0 - watts * found.seconds)


def test_no_counter_is_null_with_a_reason_and_runs_nothing(tmp_path: Path) -> None:
    meter = EnergyMeter.open(tmp_path / "missing")
    assert isinstance(meter, NoEnergy)
    assert meter.idle_watts(0.0) is None
    found = meter.window(pytest.fail)
    assert (found.gross_j, found.gross_j_per_iteration, found.method) == (None, None, "none")
    assert found.reason == meter.reason == (
        "the system shows no energy counter of the processor (RAPL)"
    )  # fmt: skip


def test_an_unreadable_counter_is_a_reason(tmp_path: Path) -> None:
    counter = add_counter(tmp_path, "intel-rapl:0", "package-0")
    counter.unlink()
    counter.mkdir()
    meter = EnergyMeter.open(tmp_path)
    assert isinstance(meter, NoEnergy)
    assert "cannot be read" in meter.reason


def test_a_forbidden_counter_names_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = add_counter(tmp_path, "intel-rapl:0", "package-0")
    read = Path.read_text

    def forbid(path: Path) -> str:
        if path == counter:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_text", forbid)
    meter = EnergyMeter.open(tmp_path)
    assert isinstance(meter, NoEnergy)
    assert "readable by the administrator only" in meter.reason


@pytest.mark.parametrize("content", ["", "many"])
def test_a_garbled_counter_is_a_reason(tmp_path: Path, content: str) -> None:
    add_counter(tmp_path, "intel-rapl:0", "package-0").write_text(content)
    assert isinstance(EnergyMeter.open(tmp_path), NoEnergy)


def test_a_counter_that_stands_still_is_null_not_zero(tmp_path: Path) -> None:
    add_counter(tmp_path, "intel-rapl:0", "package-0")
    meter = EnergyMeter.open(tmp_path)
    found = meter.window(lambda: None, seconds=0.0)
    assert (found.gross_j, found.reason) == (None, "the energy counter did not move")
    assert meter.idle_watts(0.0) is None


def test_a_counter_that_vanishes_in_the_window_is_null(tmp_path: Path) -> None:
    counter = add_counter(tmp_path, "intel-rapl:0", "package-0")
    meter = EnergyMeter.open(tmp_path)
    assert isinstance(meter, Rapl)
    found = meter.window(counter.unlink, seconds=0.0)
    assert found.gross_j is None
    assert found.reason is not None
    assert found.reason.startswith("the counter failed")
