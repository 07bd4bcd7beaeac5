"""A few energy windows: arms in turns, there and back again, between two idle ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from dynadiag.bench.energy import Energy, EnergyMeter
from dynadiag.bench.regimes import Prepared

IDLE_S = 4.0
LEAST_S = 3.0


def window_s(budget_s: float, arms: int) -> float:
    """Return the seconds of each of two windows an arm, which a meter precedes by a second."""
    return (budget_s - 2 * IDLE_S) / (2 * arms) - 1.0


def windows(meter: EnergyMeter, calls: Mapping[str, Prepared], seconds: float) -> dict[str, Energy]:
    """Meter each arm twice, in the order A B C C B A, so that slow drifts fall out.

    Args:
        meter: of the device.
        calls: what to repeat, by arm.
        seconds: of a window.

    Returns:
        By arm, both windows as one; net of the mean power of idling before and after them all.
    """
    before = meter.idle_watts(IDLE_S)
    taken: dict[str, list[Energy]] = {name: [] for name in calls}
    for name in (*calls, *reversed(list(calls))):
        taken[name].append(meter.window(calls[name].call, seconds))
    after = meter.idle_watts(IDLE_S)
    idle = None if before is None or after is None else fmean((before, after))
    return {name: _joined(each, idle) for name, each in taken.items()}


def _joined(parts: Sequence[Energy], idle_watts: float | None) -> Energy:
    joules = [part.gross_j for part in parts if part.gross_j is not None]
    seconds = sum(part.seconds for part in parts)
    gross = sum(joules) if len(joules) == len(parts) else None
    net = None if gross is None or idle_watts is None else gross - idle_watts * seconds
    reason = next((part.reason for part in parts if part.reason), None)
    flags = tuple(sorted({flag for part in parts for flag in part.flags}))
    iterations = sum(part.iterations for part in parts)
    return Energy(gross, net, seconds, iterations, parts[0].method, reason, flags)
