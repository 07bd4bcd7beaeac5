"""Energy of a card by NVML: its counter, checked by its power sensor, or the sensor alone.

NVML sees the card and not the wall socket. On A100 and H100 the sensor looks at a quarter of the
time only (arXiv 2312.02741), so a window is long, starts at a random phase, and is repeated.
"""

from __future__ import annotations

import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch

from dynadiag.bench.energy import Energy, EnergyMeter, NoEnergy
from dynadiag.bench.nvml import Nvml
from dynadiag.bench.watch import foreign_processes

LEAST_S = 2.0
_PERIOD_S = 0.01  # of the readings: a tick is late by this, 0.2 % of 5 s
_BATCH_S = 0.05  # of the calls between two synchronisations
_LEAD_S = 1.0  # clocks settle, and a sensor that shows the last second's mean catches up
_LEAST_READINGS = 20
_TOLERANCE = 0.05


class Reading(NamedTuple):
    """What NVML showed at a moment, null where it refused."""

    seconds: float
    millijoules: int | None
    watts: float | None


class Power(NamedTuple):
    """Mean power of a stretch of time, or null with a reason."""

    watts: float | None
    reason: str | None = None
    flags: tuple[str, ...] = ()


class Stretch(NamedTuple):
    """Something done over and over: for how long, how often, at what power."""

    seconds: float
    times: int
    power: Power


@contextmanager
def in_thread(act: Callable[[], None], period_s: float) -> Iterator[None]:
    """Call `act` every `period_s` in a thread until the block ends."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(period_s):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class Machine:
    """What a window needs of the machine besides the card's readings.

    Attributes:
        clock: seconds.
        sleep: lets the card idle.
        repeat: calls a function at a period beside the block under it.
        synchronize: waits for the card.
        delay: seconds before a window, at random within one tick of the counter.
    """

    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    repeat: Callable[[Callable[[], None], float], AbstractContextManager[None]] = in_thread
    synchronize: Callable[[], object] = torch.cuda.synchronize
    delay: Callable[[], float] = lambda: random.uniform(0.0, 0.1)


def open_meter(nvml: Nvml, machine: Machine | None = None) -> EnergyMeter:
    """The best meter the card offers, or one that says why there is none."""
    machine = machine or Machine()
    if nvml.reason is not None:
        return NoEnergy(nvml.reason)
    if nvml.mig:
        return NoEnergy("the card is split (MIG): it does not count its instances apart")
    if nvml.vgpu:
        return NoEnergy("the card is a share (vGPU): it does not count its users apart")
    if others := foreign_processes(nvml):
        return NoEnergy(f"{others} other process(es) on the card: their energy is in the counter")
    if nvml.energy_mj is not None:
        return NvmlCounter(nvml, machine)
    if nvml.instant_power_w is not None or nvml.power_w is not None:
        return NvmlPoll(nvml, machine)
    return NoEnergy("the card shows neither its energy nor its power")


class NvmlMeter(EnergyMeter):
    """Keeps the card busy, or idle, while its readings are taken at a steady pace."""

    method: str

    def __init__(self, nvml: Nvml, machine: Machine) -> None:
        self._nvml, self._machine = nvml, machine

    def idle_watts(self, seconds: float = 5.0) -> float | None:
        """Power while this process sleeps; null where unknown, or counter and sensor disagree.

        Raises:
            ValueError: if `seconds` are fewer than 2.
        """
        _check(seconds)
        self._machine.synchronize()
        power = self._stretch(lambda: self._machine.sleep(_BATCH_S), seconds).power
        return None if "energy_disagrees" in power.flags else power.watts

    def window(
        self, call: Callable[[], object], seconds: float = 5.0, idle_watts: float | None = None
    ) -> Energy:
        """Repeat `call` for at least `seconds`, and up to twice as long for enough readings.

        The joules are the mean power between the first and the last tick inside the window times
        the time of the calls, so the card is under load between any two readings.

        Raises:
            ValueError: if `seconds` are fewer than 2.
        """
        _check(seconds)
        self._machine.sleep(self._machine.delay())
        size = self._lead(call)
        elapsed, batches, power = self._stretch(lambda: self._batch(call, size), seconds)
        watts, reason, flags = power
        gross = None if watts is None else watts * elapsed
        net = None if gross is None or idle_watts is None else gross - idle_watts * elapsed
        return Energy(gross, net, elapsed, batches * size, self.method, reason, flags)

    def _stretch(self, act: Callable[[], object], seconds: float) -> Stretch:
        """Repeat `act` with readings beside it."""
        readings: list[Reading] = []
        times, begun = 0, self._machine.clock()
        with self._machine.repeat(lambda: readings.append(self._read()), _PERIOD_S):
            while (elapsed := self._machine.clock() - begun) < seconds or (
                elapsed < 2 * seconds and self._power(readings).watts is None
            ):
                act()
                times += 1
        return Stretch(elapsed, times, self._power(readings))

    def _lead(self, call: Callable[[], object]) -> int:
        """Load the card for a second; returns how many calls make a batch."""
        size, begun = 1, self._machine.clock()
        while (start := self._machine.clock()) - begun < _LEAD_S:
            self._batch(call, size)
            if self._machine.clock() - start < _BATCH_S / 2:
                size *= 2
        return size

    def _batch(self, call: Callable[[], object], size: int) -> None:
        """Make calls whose launches run ahead of the card, but never far."""
        for _ in range(size):
            call()
        self._machine.synchronize()

    @abstractmethod
    def _read(self) -> Reading:
        """What the card shows now."""

    @abstractmethod
    def _power(self, readings: Sequence[Reading]) -> Power:
        """Mean power over the readings."""


class NvmlCounter(NvmlMeter):
    """By the card's counter of millijoules, which ticks every 0.1 s or so."""

    method = "nvml_counter"

    def _read(self) -> Reading:
        clock = self._machine.clock()
        return Reading(clock, self._nvml.energy_mj, self._nvml.instant_power_w)

    def _power(self, readings: Sequence[Reading]) -> Power:
        counted = [(r.seconds, r.millijoules) for r in readings if r.millijoules is not None]
        ticks = [later for earlier, later in pairwise(counted) if later[1] != earlier[1]]
        if ticks != sorted(ticks, key=lambda tick: tick[1]):
            return Power(None, "the energy counter went back, as when the driver is loaded anew")
        if len(ticks) < _LEAST_READINGS:
            found = f"the energy counter ticked {len(ticks)} times, {_LEAST_READINGS} are needed"
            refusal = self._nvml.support.get("nvmlDeviceGetTotalEnergyConsumption", "ok")
            return Power(None, found if refusal == "ok" else f"{found}: {refusal}")
        (start, first), (end, last) = ticks[0], ticks[-1]
        watts = (last - first) / (end - start) / 1000
        sensed = _mean_power([r for r in readings if start <= r.seconds <= end])
        return Power(watts, None, _doubts(watts, sensed))


class NvmlPoll(NvmlMeter):
    """By the power sensor, for cards without a counter."""

    method = "nvml_poll"

    def __init__(self, nvml: Nvml, machine: Machine) -> None:
        super().__init__(nvml, machine)
        self._instant = nvml.instant_power_w is not None

    def _read(self) -> Reading:
        watts = self._nvml.instant_power_w if self._instant else self._nvml.power_w
        return Reading(self._machine.clock(), None, watts)

    def _power(self, readings: Sequence[Reading]) -> Power:
        known = [reading for reading in readings if reading.watts is not None]
        if len(known) < _LEAST_READINGS:
            return Power(None, f"{len(known)} readings of power, {_LEAST_READINGS} are needed")
        return Power(_mean_power(known), None, () if self._instant else ("power_averaged",))


def _check(seconds: float) -> None:
    if seconds < LEAST_S:
        raise ValueError(
            f"{seconds:g} s are too short to meter energy: give at least {LEAST_S:g} s"
        )


def _mean_power(readings: Sequence[Reading]) -> float | None:
    """Trapezoids over the readings that show watts; null where there are not two."""
    known = [(r.seconds, r.watts) for r in readings if r.watts is not None]
    if len(known) < 2:
        return None
    joules = sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(known))
    return joules / (known[-1][0] - known[0][0])


def _doubts(counted: float, sensed: float | None) -> tuple[str, ...]:
    if sensed is None:
        return ("energy_unchecked",)
    return ("energy_disagrees",) if abs(sensed - counted) > _TOLERANCE * counted else ()
