"""Energy of a call, in a window of its own: never of the timing run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dynadiag.bench.nvml import Nvml

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """Energy of a window.

    Attributes:
        gross_j: joules of the window, null (never 0) where unknown.
        net_j: `gross_j` less what an idle machine takes; null where the idle power is unknown.
        seconds: length of the window.
        iterations: calls in it.
        method: ``nvml_counter``, ``nvml_poll``, ``rapl`` or ``none``.
        reason: why there is no value.
        flags: doubts about the value: ``energy_disagrees`` where counter and power sensor differ
            by more than 5 %, ``energy_unchecked`` where the card has no such sensor,
            ``power_averaged`` where the sensor shows a mean over the last second.
    """

    gross_j: float | None
    net_j: float | None
    seconds: float
    iterations: int
    method: str
    reason: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def gross_j_per_iteration(self) -> float | None:
        """Joules of one call."""
        return None if self.gross_j is None else self.gross_j / self.iterations

    @property
    def net_j_per_iteration(self) -> float | None:
        """Joules of one call beyond idling."""
        return None if self.net_j is None else self.net_j / self.iterations

    @property
    def seconds_per_iteration(self) -> float | None:
        """Time of one call in the same window; null where none was made."""
        return self.seconds / self.iterations if self.iterations else None

    @property
    def watts(self) -> float | None:
        """Mean power of the window."""
        return None if self.gross_j is None else self.gross_j / self.seconds


class EnergyMeter(ABC):
    """Measures windows; `EnergyMeter.open()` finds the meter of this machine."""

    @staticmethod
    def open(
        root: Path = POWERCAP, *, device: str = "cpu", nvml: Nvml | None = None
    ) -> EnergyMeter:
        """The meter of a device, or one that says why there is none.

        Args:
            root: where the system shows the processor's energy counters.
            device: ``cpu`` or ``cuda``.
            nvml: the card, by default torch's current one.
        """
        # Both meters build on this module.
        from dynadiag.bench import nvml_energy, rapl

        if device == "cuda":
            return nvml_energy.open_meter(nvml or Nvml.open())
        return rapl.open_meter(root)

    @abstractmethod
    def idle_watts(self, seconds: float = 5.0) -> float | None:
        """Power while this process sleeps; null where unknown."""

    @abstractmethod
    def window(
        self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
    ) -> Energy:
        """Repeat `call` for at least `seconds` and read the counter before and after."""

    def between_idles(
        self, call: Callable[[], object], seconds: float = 5.0, idle_seconds: float = 5.0
    ) -> Energy:
        """A window whose net energy counts from the mean of the idle power before and after it."""
        before = self.idle_watts(idle_seconds)
        found = self.window(call, seconds)
        after = self.idle_watts(idle_seconds)
        if found.gross_j is None or before is None or after is None:
            return found
        return replace(found, net_j=found.gross_j - (before + after) / 2 * found.seconds)


class NoEnergy(EnergyMeter):
    """The meter of a machine without one."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def idle_watts(self, seconds: float = 5.0) -> float | None:
        """Unknown."""
        return None

    def window(
        self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
    ) -> Energy:
        """Unknown; `call` is not run."""
        return Energy(None, None, 0.0, 0, "none", self.reason)
