"""Energy of the processor by RAPL, the counters that Linux shows under `/sys/class/powercap`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from dynadiag.bench.energy import Energy, EnergyMeter, NoEnergy


def open_meter(root: Path) -> EnergyMeter:
    """The meter of the packages under `root`, or one that says why not."""
    packages = sorted(root.glob("intel-rapl:*[0-9]"))
    packages = [folder for folder in packages if _text(folder / "name").startswith("package")]
    if not packages:
        return NoEnergy("the system shows no energy counter of the processor (RAPL)")
    try:
        return Rapl([Counter(folder) for folder in packages])
    except PermissionError as error:
        return NoEnergy(f"{error.filename} is readable by the administrator only")
    except (OSError, ValueError) as error:
        return NoEnergy(f"the energy counter cannot be read: {error}")


class Counter:
    """One package's counter of microjoules, which starts again from 0 at its range.

    At 200 W the common range of 262 kJ lasts 22 minutes, so a window sees one such start at most.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self.read()

    def read(self) -> int:
        """Microjoules so far."""
        return int(self._path.read_text())

    def joules(self, start: int, end: int) -> float:
        """Joules between two readings."""
        return (end - start if end >= start else end - start + self._range) * 1e-6


class Rapl(EnergyMeter):
    """Sum over the processor's packages; memory modules have counters of their own, left out."""

    def __init__(self, counters: list[Counter]) -> None:
        self._counters = counters

    def idle_watts(self, seconds: float = 5.0) -> float | None:
        """Power while this process sleeps; null if the counter stands still or fails."""
        idle = self.window(lambda: time.sleep(seconds), seconds=0.0)
        return None if idle.gross_j is None else idle.gross_j / idle.seconds

    def window(
        self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
    ) -> Energy:
        """Repeat `call` for at least `seconds` and read the counters before and after."""
        iterations, begun = 0, time.perf_counter()
        try:
            starts = [counter.read() for counter in self._counters]
            while iterations == 0 or time.perf_counter() - begun < seconds:
                call()
                iterations += 1
            elapsed = time.perf_counter() - begun
            ends = [counter.read() for counter in self._counters]
        except (OSError, ValueError) as error:
            return Energy(None, None, 0.0, iterations, "rapl", f"the counter failed: {error}")
        spans = zip(self._counters, starts, ends, strict=True)
        gross = sum(counter.joules(start, end) for counter, start, end in spans)
        if gross <= 0:
            reason = "the energy counter did not move"
            return Energy(None, None, elapsed, iterations, "rapl", reason)
        net = None if idle_watts is None else gross - idle_watts * elapsed
        return Energy(gross, net, elapsed, iterations, "rapl")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
