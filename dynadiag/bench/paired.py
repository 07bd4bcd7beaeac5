"""Arms of one case timed in turns, through pytest-benchmark's public interface.

pytest-benchmark times the first arm, the subject; the other arms are timed around it in
`pedantic`'s setup and teardown, so that every round holds one sample of every arm, in an order
that favours none.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynadiag.bench.clocks import HostStamp, Stamp
from dynadiag.bench.schedule import orders
from dynadiag.bench.statistics import paired_ratio, rounds_needed

FLOOR = 12  # fewest rounds whose 99 % interval leaves out the largest and smallest sample

Call = Callable[[], object]


class Benchmark(Protocol):
    """The part of pytest-benchmark's fixture that is used here."""

    @property
    def enabled(self) -> bool:
        """False under ``--benchmark-disable``."""

    @property
    def pedantic(self) -> Callable[..., Any]:
        """Times a target for a fixed number of rounds."""

    @property
    def stats(self) -> Any:
        """``stats.stats.data`` are the seconds, once it has run."""


@dataclass(frozen=True)
class Precision:
    """How narrow the intervals should be and what that may cost.

    Attributes:
        target: half-width of the log-ratio aimed at; 0.01 is 1 %.
        pilot: rounds that only predict how many are needed.
        least: fewest rounds while the budget allows them.
        cap: most rounds.
        warmup: rounds before anything is timed.
        budget_s: seconds for the pilot and the rounds of one case, all arms together.
        hard_cap_s: seconds up to which a case over budget still gets `FLOOR` rounds.
    """

    target: float
    pilot: int
    least: int
    cap: int
    warmup: int
    budget_s: float
    hard_cap_s: float


PRECISIONS = {
    "quick": Precision(0.01, 12, 30, 100, warmup=2, budget_s=0.5, hard_cap_s=5.0),
    "full": Precision(0.0025, 30, 100, 1000, warmup=10, budget_s=3.0, hard_cap_s=20.0),
}


@dataclass(frozen=True)
class Paired:
    """The samples of one case.

    Attributes:
        samples: seconds a call by arm, index i being round i for every arm.
        rounds: samples per arm.
        flags: ``precision_not_reached`` when an interval is wider than 1.5 times the target.
        order: which arm went first, second, ... in each round.
    """

    samples: dict[str, NDArray[np.float64]]
    rounds: int
    flags: tuple[str, ...]
    order: list[tuple[int, ...]]


def paired(
    benchmark: Benchmark,
    arms: Mapping[str, Call],
    *,
    seed: int,
    precision: Precision,
    stamp: Callable[[], Stamp] = HostStamp,
    flush: Call | None = None,
    iterations: Mapping[str, int] | None = None,
) -> Paired | None:
    """Time every arm once a round, for as many rounds as `precision` asks.

    Args:
        benchmark: pytest-benchmark's fixture; its timer must be `stamp`, by the marker of the
            test or of its parameter.
        arms: the calls by name; the first is the fixture's subject.
        seed: of the order within the rounds.
        precision: rounds, budget and warm-up.
        stamp: clock of the other arms.
        flush: called, untimed, right before each sample; ``None`` has the arm itself called
            there once, untimed, so that a sample is one of a row of calls.
        iterations: calls in one sample of an arm, 1 where not given; samples are divided by it
            (but not those in pytest-benchmark's own table).

    Returns:
        The samples, or ``None`` under ``--benchmark-disable``, where each arm is called once.

    Raises:
        ValueError: if there are no arms.
    """
    if not arms:
        raise ValueError("no arms to time: a case needs at least one")
    turns = _Turns(list(arms.values()), orders(len(arms), seed), stamp, flush)
    if not benchmark.enabled:
        turns.primed = False
        benchmark.pedantic(turns.subject, setup=turns.before, rounds=1)
        turns.after()
        return None
    rounds = _plan(turns, precision)
    benchmark.pedantic(turns.subject, setup=turns.before, teardown=turns.after, rounds=rounds)
    taken = zip(arms, [benchmark.stats.stats.data, *turns.samples[1:]], strict=True)
    calls = iterations or {}
    samples = {name: np.array(seconds) / calls.get(name, 1) for name, seconds in taken}
    flags = _flags(list(samples.values()), precision)
    return Paired(samples, rounds, flags, turns.order)


class _Turns:
    """Runs rounds; the sample of arm 0 may be taken by somebody else."""

    def __init__(
        self,
        calls: Sequence[Call],
        schedule: Iterator[tuple[int, ...]],
        stamp: Callable[[], Stamp],
        flush: Call | None,
    ) -> None:
        self.schedule, self.stamp, self.flush = schedule, stamp, flush
        self.runs = [functools.partial(self._keep, call) for call in calls]
        self.primed = flush is None
        self.result: object = None
        self.forget()

    def forget(self) -> None:
        """Drop what was measured so far."""
        self.samples: list[list[float]] = [[] for _ in self.runs]
        self.order: list[tuple[int, ...]] = []

    @property
    def subject(self) -> Call:
        """What pytest-benchmark times."""
        return self.runs[0]

    def before(self) -> None:
        """Open a round: the arms ahead of the subject, then all is ready for the subject."""
        self.order.append(next(self.schedule))
        self._time(self.order[-1][: self.order[-1].index(0)])
        self._ready(0)

    def after(self) -> None:
        """Close the round: the arms behind the subject."""
        self._time(self.order[-1][self.order[-1].index(0) + 1 :])

    def run(self, rounds: int) -> None:
        """Whole rounds, the subject timed like the others."""
        for _ in range(rounds):
            self.order.append(next(self.schedule))
            self._time(self.order[-1])

    def _time(self, arms: Sequence[int]) -> None:
        for arm in arms:
            self._ready(arm)
            run = self.runs[arm]
            start = self.stamp()
            # Just as pytest-benchmark calls the subject: a plain call() here made the subject
            # look 0.1 to 0.3 µs slower.
            run(*(), **{})  # noqa: PIE804
            end = self.stamp()
            self.samples[arm].append(end - start)

    def _keep(self, call: Call) -> None:
        self.result = call()

    def _ready(self, arm: int) -> None:
        # The arm's own untimed call brings the caches and the threads to where its calls leave
        # them; after other arms a fast one would pay for what the slow ones evicted (measured: up
        # to 1.6x at 100 us). A flush says the opposite is wanted.
        if self.primed:
            self.runs[arm]()
        # A result is freed here and not at the end of its call: no sample pays for the release,
        # and every arm finds the allocator in the same state.
        self.result = None
        if self.flush is not None:
            self.flush()


def _plan(turns: _Turns, precision: Precision) -> int:
    """Warm up, run the pilot, forget both; returns the number of rounds."""
    round_s = _warm_up(turns, precision)
    affordable = int(precision.budget_s / round_s)
    pilot = min(precision.pilot, affordable // 4)
    needed = precision.least
    if pilot >= FLOOR:
        turns.forget()
        turns.run(pilot)
        needed = rounds_needed(turns.samples, precision.target, precision.least, precision.cap)
    turns.forget()
    floor = max(1, min(FLOOR, int(precision.hard_cap_s / round_s)))
    return min(needed, max(floor, affordable - pilot))


def _warm_up(turns: _Turns, precision: Precision) -> float:
    """Seconds of the fastest of the warm-up rounds, of which a slow case gets only two."""
    spent: list[float] = []
    while len(spent) < max(2, precision.warmup) and (len(spent) < 2 or sum(spent) < 0.2):
        start = time.perf_counter()
        turns.run(1)
        spent.append(time.perf_counter() - start)
    return min(spent)


def _flags(samples: Sequence[NDArray[np.float64]], precision: Precision) -> tuple[str, ...]:
    widths = [paired_ratio(samples[0], other, draws=300).half_width for other in samples[1:]]
    reached = max(widths, default=0.0) <= 1.5 * precision.target
    return () if reached else ("precision_not_reached",)
