"""A few timings of a CUDA call, to plan by: how long it takes, and how long it takes to issue."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple, TypeVar

from dynadiag.bench.clocks import EventStamp, SyncStamp
from dynadiag.bench.paired import Call

T = TypeVar("T")

_MOST, _MOST_S = 11, 0.1


class Probe(NamedTuple):
    """Seconds of a call.

    Attributes:
        device_s: between two events around it, of the fastest.
        issue_s: until the host had queued the call and both events, median.
    """

    device_s: float
    issue_s: float


def probe(call: Call, before: Call) -> Probe:
    """Time a few calls, each queued behind a call of `before` that hides its launch."""

    def once() -> Probe:
        before()
        begun = time.perf_counter()
        start = EventStamp()
        call()
        end = EventStamp()
        issue = time.perf_counter() - begun
        return Probe(end - start, issue)

    once()
    seen = _few(once)
    return Probe(min(each.device_s for each in seen), median(each.issue_s for each in seen))


def _few(once: Callable[[], T]) -> list[T]:
    begun, seen = time.perf_counter(), [once()]
    while len(seen) < _MOST and time.perf_counter() - begun < _MOST_S:
        seen.append(once())
    return seen


def waited(call: Call) -> float:
    """Seconds from an idle device to an idle device, of the fastest of a few."""

    def once() -> float:
        start = SyncStamp()
        call()
        return SyncStamp() - start

    return min(_few(once))
