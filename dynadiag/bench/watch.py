"""Was the card held back, or shared, while a case was measured? Asked only; nothing is set."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch

from dynadiag.bench.nvml import Nvml

T = TypeVar("T")

# Heat and hardware slow a card down for reasons of its surroundings; its power cap is the normal
# state of a data centre card under dense GEMMs.
SLOWDOWNS = frozenset({"hw_slowdown", "sw_thermal", "hw_thermal", "power_brake"})
_SLOWDOWN_COUNTERS = frozenset({"thermal", "sw_thermal", "hw_thermal", "power_brake"})
_SAME_HEAT_C = 2


@dataclass(frozen=True)
class Seen:
    """What happened to the card around a case.

    Attributes:
        flags: ``throttled`` by heat or hardware, ``power_capped``; none where nothing is known.
        facts: clocks in MHz, temperature in °C and reasons, each before and after, null where
            unknown; ``violations_ns`` has the policies that held the clocks down meanwhile.
    """

    flags: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def throttled(self) -> bool:
        """Whether the case deserves another measurement."""
        return "throttled" in self.flags


class _Look(NamedTuple):
    clocks: dict[str, int | None]
    temperature: int | None
    reasons: frozenset[str] | None
    violations: dict[str, int]


class Watch:
    """Looks at the card when made, and again when asked what was seen; never inside a timing."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._before = self._look()

    def seen(self) -> Seen:
        """What happened since this watch was made."""
        before, after = self._before, self._look()
        grown = {
            policy: count - before.violations[policy]
            for policy, count in after.violations.items()
            if count > before.violations.get(policy, count)
        }
        reasons = (before.reasons or frozenset()) | (after.reasons or frozenset())
        flags = []
        if reasons & SLOWDOWNS or grown.keys() & _SLOWDOWN_COUNTERS:
            flags.append("throttled")
        if "power_cap" in reasons or "power" in grown:
            flags.append("power_capped")
        return Seen(tuple(flags), _facts(before, after) | {"violations_ns": grown})

    def _look(self) -> _Look:
        card = self._nvml
        return _Look(card.clocks, card.temperature_c, card.throttle_reasons, card.violations_ns)


def watched(
    nvml: Nvml,
    measure: Callable[[], T],
    *,
    retries: int = 2,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[T, Seen]:
    """Measure a case; while it was throttled, cool down and measure again.

    Args:
        nvml: the card.
        measure: takes the measurement from its start.
        retries: most repetitions; the last result is kept with its flag.
        sleep: waits for seconds.
    """
    start = nvml.temperature_c
    for left in range(retries, -1, -1):
        watch = Watch(nvml)
        result = measure()
        seen = watch.seen()
        if not seen.throttled or not left:
            break
        cool_down(nvml, start, sleep=sleep)
    return result, seen


def cool_down(
    nvml: Nvml,
    celsius: int | None,
    *,
    limit_s: int = 30,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the card is within 2 °C of `celsius` and nothing slows it, or the limit is over.

    Args:
        nvml: the card.
        celsius: temperature to return to; unknown like the card's own, only the reasons count.
        limit_s: seconds at most.
        sleep: waits for seconds.
    """
    for _ in range(limit_s):
        now, reasons = nvml.temperature_c, nvml.throttle_reasons or frozenset()
        warm = now is not None and celsius is not None and now > celsius + _SAME_HEAT_C
        if not warm and not reasons & SLOWDOWNS:
            return
        sleep(1.0)


def foreign_processes(
    nvml: Nvml, *, pid: int | None = None, active: bool | None = None
) -> int | None:
    """How many processes other than this one compute on the card; null where it cannot be told.

    In a container the card may list this process under the host's number for it, so one process
    of an unknown number is taken for this one if this one is on the card at all.

    Args:
        nvml: the card.
        pid: number of this process.
        active: whether this process is on the card, by default whether torch has used it.
    """
    listed = nvml.processes
    if listed is None:
        return None
    mine = os.getpid() if pid is None else pid
    active = torch.cuda.is_initialized() if active is None else active
    others = sum(process.pid != mine for process in listed)
    hidden = active and others == len(listed) > 0
    return others - 1 if hidden else others


def why_busy(nvml: Nvml) -> str | None:
    """Why a measurement should not start, or null; to be asked before any work of this process."""
    if others := foreign_processes(nvml):
        return f"{others} other process(es) compute on the card: wait for them or end them"
    if busy := nvml.utilization:
        return f"the card was busy for {busy} % of the last moment, before this process used it"
    return None


def _facts(before: _Look, after: _Look) -> dict[str, Any]:
    looks = (before, after)
    return {
        "sm_mhz": [look.clocks["sm"] for look in looks],
        "mem_mhz": [look.clocks["mem"] for look in looks],
        "temperature_c": [look.temperature for look in looks],
        "reasons": [None if look.reasons is None else sorted(look.reasons) for look in looks],
    }
