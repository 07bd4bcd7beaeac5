"""Regimes: which caches and which launches a time includes.

``cold`` is a kernel inside a network, its weights not in the L2 cache, its launch hidden behind
other work; ``warm`` the same kernel repeated, everything cached, no launches; ``eager`` what a
caller of a layer waits for, launches included. Small layers differ by up to 3x between them.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynadiag.bench.clocks import EventStamp, HostStamp, Stamp, SyncStamp
from dynadiag.bench.graphs import NotCapturable, captured
from dynadiag.bench.paired import Call
from dynadiag.bench.probe import probe, waited

FLUSH_BYTES = 2**28
# Events resolve about 0.5 µs: a shorter call says more about them than about itself.
RESOLVED_S = 10e-6
# A sample of many calls lasts about this long: its ends, about 10 µs, weigh 1 %.
BLOCK_S = 1e-3
_MOST_CALLS = 1000


@dataclass(frozen=True)
class Prepared:
    """A call made ready to be timed in a regime.

    Attributes:
        call: one sample.
        iterations: calls in a sample.
        detail: how the device gets its work: ``graph``, or ``eager`` with the reason.
        flags: ``launch_bound`` where the host was too slow to keep its launches out of the time;
            ``unresolved`` where the time is too short for the clock.
    """

    call: Call
    iterations: int = 1
    detail: str = "eager"
    flags: tuple[str, ...] = ()


class Regime(ABC):
    """What `paired` needs to time calls in one regime on one device.

    Attributes:
        device: ``cpu`` or ``cuda``.
        stamp: the clock, for the other arms and as pytest-benchmark's timer for the first.
    """

    stamp: ClassVar[type[Stamp]]

    def __init__(self, device: str) -> None:
        self.device = device

    @property
    def flush(self) -> Call | None:
        """What `paired` calls before each sample; ``None`` has it call the arm."""
        return None

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Where the arms of a case are built and timed.

        For graphs a stream of the regime's own: the backward of what was computed on the default
        stream could not be captured.
        """
        yield

    @abstractmethod
    def prepare(self, call: Call) -> Prepared:
        """Make `call` ready, calling it a few times."""


class HostEager(Regime):
    """Calls on the CPU, one a sample."""

    stamp = HostStamp

    def prepare(self, call: Call) -> Prepared:
        """Leave `call` as it is."""
        return Prepared(call)


class Eager(Regime):
    """Blocks of calls as Python makes them, from an idle device to an idle device."""

    stamp = SyncStamp

    def prepare(self, call: Call) -> Prepared:
        """Choose the calls of a block so that it lasts a millisecond."""
        rough = _calls_of_a_block(waited(call))
        iterations = _calls_of_a_block(waited(_repeated(call, rough)) / rough)
        return Prepared(_repeated(call, iterations), iterations)


class _OnEvents(Regime):
    """Timed by events of the device, on a stream of its own."""

    stamp = EventStamp

    @functools.cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Enter a stream that waits for the work before it, and is waited for."""
        outer = torch.cuda.current_stream()
        self._stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outer.wait_stream(self._stream)


class Cold(_OnEvents):
    """One call behind a flush of the L2 cache, whose run time hides the launch.

    The flush is queued and not waited for: after a wait the device would stand idle until the
    host has launched the call, and the time would be that of the launch.
    """

    @functools.cached_property
    def _buffer(self) -> Tensor:
        cache = torch.cuda.get_device_properties(self.device).L2_cache_size
        size = max(2 * cache, FLUSH_BYTES)
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    @functools.cached_property
    def _flush_s(self) -> float:
        return probe(self.flush, before=self.flush).device_s

    @property
    def flush(self) -> Call:
        """Fill a buffer of twice the cache with zeros."""
        return self._buffer.zero_

    def prepare(self, call: Call) -> Prepared:
        """Capture the call where it can be, and see whether the flush hides its launch."""
        run, detail = self._graph(call)
        seen = probe(run, before=self.flush)
        flags = {
            "launch_bound": seen.issue_s > self._flush_s,
            "unresolved": seen.device_s < RESOLVED_S,
        }
        return Prepared(run, 1, detail, tuple(flag for flag, holds in flags.items() if holds))

    def _graph(self, call: Call) -> tuple[Call, str]:
        try:
            with self.stream():
                return captured(call), "graph"
        except NotCapturable as error:
            return call, f"eager: {error}"


class Warm(_OnEvents):
    """A CUDA graph of many calls, replayed right behind itself."""

    def prepare(self, call: Call) -> Prepared:
        """Choose the calls of a graph so that it lasts a millisecond, and capture them."""
        try:
            with self.stream():
                one = captured(call)
                iterations = _calls_of_a_block(probe(one, before=one).device_s)
                return Prepared(captured(call, iterations), iterations, "graph")
        except NotCapturable as error:
            return self._uncaptured(call, f"eager: {error}")

    def _uncaptured(self, call: Call, detail: str) -> Prepared:
        iterations = _calls_of_a_block(probe(call, before=call).device_s)
        run = _repeated(call, iterations)
        seen = probe(run, before=run)
        # Where the device waits for launches, it takes just as long as they do.
        bound = seen.issue_s > 0.9 * seen.device_s
        return Prepared(run, iterations, detail, ("launch_bound",) if bound else ())


REGIMES: dict[str, dict[str, type[Regime]]] = {
    "cpu": {"eager": HostEager},
    "cuda": {"cold": Cold, "warm": Warm, "eager": Eager},
}


@functools.cache
def regime(name: str, device: str) -> Regime:
    """The regime of that name on ``cpu`` or ``cuda``, one in the process; nothing is launched yet.

    Raises:
        ValueError: if there is none.
    """
    known = REGIMES.get(device, {})
    if name not in known:
        listed = ", ".join(known) or f"none, devices are {', '.join(REGIMES)}"
        raise ValueError(f"no regime {name!r} on {device!r}; known: {listed}")
    return known[name](device)


def _calls_of_a_block(seconds: float) -> int:
    return max(1, round(BLOCK_S / max(seconds, BLOCK_S / _MOST_CALLS)))


def _repeated(call: Call, calls: int) -> Call:
    def block() -> None:
        for _ in range(calls):
            call()

    return block if calls > 1 else call
