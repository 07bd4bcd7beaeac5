"""Stamps: moments whose difference is a time in seconds.

A stamp class is a pytest-benchmark timer: ``@pytest.mark.benchmark(timer=HostStamp)``.
"""

from __future__ import annotations

import time
from typing import Protocol, Self

import torch


class Stamp(Protocol):
    """A moment; ``end - start`` is in seconds."""

    def __sub__(self, start: Self, /) -> float: ...


class HostStamp:
    """A moment on the host's monotonic clock."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds = time.perf_counter()

    def __sub__(self, start: HostStamp, /) -> float:
        return self._seconds - start._seconds


class SyncStamp(HostStamp):
    """A moment on the host's clock at which the CUDA device has done all its work."""

    __slots__ = ()

    def __init__(self) -> None:
        torch.cuda.synchronize()
        super().__init__()


class EventStamp:
    """A moment on torch's current CUDA stream.

    The difference waits for the end event, so it is read after the interval has closed and adds
    nothing to it.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True)
        self._event.record()

    def __sub__(self, start: EventStamp, /) -> float:
        self._event.synchronize()
        return float(start._event.elapsed_time(self._event)) * 1e-3
