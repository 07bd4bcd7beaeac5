"""Warming a card up to the clock and temperature it then keeps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

CLOCK_SLOPE, TEMPERATURE_SLOPE = 0.01, 0.5  # per second: of the clock itself, and in °C
# Four seconds, in which the slope of the temperature is two steps of its sensor.
_STEP_S, _WINDOW = 1.0, 5
_SIZE = 4096


class Sensor(Protocol):
    """The part of `Nvml` that is read here; null where the card does not say."""

    @property
    def clocks(self) -> Mapping[str, int | None]:
        """MHz by ``sm`` and ``mem``."""

    @property
    def temperature_c(self) -> int | None:
        """Degrees Celsius."""


@dataclass(frozen=True)
class Reading:
    """What the card said at a moment.

    Attributes:
        at_s: on the host's clock.
        sm_mhz: clock of the multiprocessors, null where unknown.
        temperature_c: null where unknown.
    """

    at_s: float
    sm_mhz: int | None
    temperature_c: int | None

    @classmethod
    def of(cls, sensor: Sensor) -> Reading:
        """Read the sensor."""
        return cls(time.perf_counter(), sensor.clocks["sm"], sensor.temperature_c)


def warm_up(sensor: Sensor, *, device: str = "cuda", limit_s: float = 20.0) -> dict[str, Any]:
    """Multiply matrices until clock and temperature stay where they are.

    Args:
        sensor: reads both.
        device: of the matrices.
        limit_s: seconds after which it ends anyhow, and always where the card does not say.

    Returns:
        ``steady``, ``seconds``, ``sm_mhz`` and ``temperature_c`` at the end.
    """
    matrix = torch.randn(_SIZE, _SIZE).to(torch.bfloat16).to(device)
    product = torch.empty_like(matrix)
    readings = [Reading.of(sensor)]
    while not steady(readings) and readings[-1].at_s - readings[0].at_s < limit_s:
        deadline = time.perf_counter() + _STEP_S
        while time.perf_counter() < deadline:
            for _ in range(20):
                torch.mm(matrix, matrix, out=product)
            torch.cuda.synchronize()
        readings.append(Reading.of(sensor))
    last = readings[-1]
    return {
        "steady": steady(readings),
        "seconds": last.at_s - readings[0].at_s,
        "sm_mhz": last.sm_mhz,
        "temperature_c": last.temperature_c,
    }


def steady(readings: list[Reading]) -> bool:
    """Whether clock and temperature changed by no more than their slopes in the last seconds."""
    window = readings[-_WINDOW:]
    clocks = [reading.sm_mhz for reading in window if reading.sm_mhz]
    degrees = [reading.temperature_c for reading in window if reading.temperature_c is not None]
    if len(window) < _WINDOW or len(clocks) < _WINDOW or len(degrees) < _WINDOW:
        return False
    seconds = window[-1].at_s - window[0].at_s
    return (
        max(clocks) - min(clocks) <= CLOCK_SLOPE * seconds * max(clocks)
        and max(degrees) - min(degrees) <= TEMPERATURE_SLOPE * seconds
    )
