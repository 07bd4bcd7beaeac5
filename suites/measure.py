"""One case, from its layers to its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dynadiag.bench.energy import Energy
from dynadiag.bench.memory import peak_bytes
from dynadiag.bench.paired import Benchmark, Call, Precision, paired
from dynadiag.bench.records import Row, blank_row
from dynadiag.bench.watch import Seen

from .arms import weight_bytes
from .calls import Inputs
from .candidates import BASELINES, SUBJECT, Bench, Candidate, a_few, in_rounds, prepare
from .cases import Case
from .rows import (
    Samples,
    bytes_row,
    energy_rows,
    error_row,
    hedged,
    outside_rows,
    peak_rows,
    seen_rows,
    speedup_row,
    time_rows,
)

# What `backend="auto"` chooses from: the subject is compared with each.
BACKENDS = ("diagonal_cpu", "diagonal_cuda", "diagonal_dense")
OUTSIDE_S = 1.0
Meter = Callable[[Call], Energy]


class Measurement:
    """What is known about one case.

    Attributes:
        candidates: its arms, built and checked.
        samples: seconds a call, by arm.
        seen: what happened to the device meanwhile.
    """

    def __init__(self, case: Case, seed: int, bench: Bench | None = None) -> None:
        self.case, self.seed = case, seed
        self._bench = bench or Bench()
        self._regime = self._bench.regime(case)
        with self._regime.stream():
            inputs = Inputs.draw(case, seed, self._bench.device)
            self.candidates = [
                prepare(case, name, inputs, seed + i, self._bench)
                for i, name in enumerate(case.arms)
            ]
        self.samples: dict[str, Samples] = {}
        self.seen = Seen((), {})
        self._outside: set[str] = set()
        self._flags: list[str] = []

    @property
    def troubles(self) -> list[str]:
        """What came out wrong or failed, in words."""
        bad = [each for each in self.candidates if each.status in ("wrong", "failed")]
        return [f"{each.name} {each.status}: {each.reason}" for each in bad]

    def time(self, benchmark: Benchmark, precision: Precision) -> None:
        """Time the arms side by side, and apart from them those too slow for that."""
        ready = {each.name: each for each in self.candidates if each.status == "ok"}
        if not ready:
            return
        inside = in_rounds({name: each.seconds for name, each in ready.items()}, precision)
        with self._regime.stream():
            result = paired(
                benchmark,
                {name: ready[name].ready.call for name in inside},
                seed=self.seed,
                precision=precision,
                stamp=self._regime.stamp,
                flush=self._regime.flush,
                iterations={name: ready[name].ready.iterations for name in inside},
            )
            if result is not None:
                self._outside = ready.keys() - set(inside)
                apart = {
                    name: a_few(ready[name].ready, self._regime, OUTSIDE_S)
                    for name in self._outside
                }
                self.samples, self._flags = result.samples | apart, list(result.flags)

    def rows(self, energy: Meter | None, **columns: Any) -> Iterator[Row]:
        """Yield the rows of every arm, then the one that closes the case.

        Args:
            energy: measures the joules of a call; None leaves energy out.
            columns: what the run adds to every row.
        """
        columns = self.case.columns | {"seed": self.seed} | columns
        for each in self.candidates:
            about = columns | self.about(each)
            rows = self._arm(each, energy) if each.status == "ok" else _excuse(each)
            yield from (blank_row(**(about | row)) for row in rows)
        yield from (blank_row(**(columns | row)) for row in seen_rows(self.seen))
        yield blank_row(**(columns | self._ending()))

    def about(self, each: Candidate) -> Row:
        """Return what all rows of an arm share: the layer, and how the device got its work."""
        about = {"arm": each.name} | each.arm.columns(each.layer, self.case)
        if each.status == "ok" and each.ready.detail != "eager":
            about["config"] = "; ".join(filter(None, [about.get("config"), each.ready.detail]))
        return about

    def _ending(self) -> Row:
        ending: Row = {"metric": "case", "unit": "1"}
        if self.samples:
            return ending | {"value": 1}
        return ending | {"status": "failed", "reason": "; ".join(self.troubles)}

    def _arm(self, each: Candidate, energy: Meter | None) -> Iterator[Row]:
        yield from self._times(each.name)
        yield error_row(each.error)
        yield bytes_row(weight_bytes(each.layer))
        # The slow are called no more often than it takes to know.
        repeats = 1 if each.name in self._outside else 3
        yield from peak_rows(peak_bytes(each.call, device=self._bench.device, repeats=repeats))
        if energy is not None:
            yield from energy_rows(energy(each.ready.call), each.ready.iterations)

    def _times(self, name: str) -> Iterator[Row]:
        others = (*BASELINES, *BACKENDS) if name == SUBJECT else BASELINES
        known = self.samples.keys() - self._outside - {name}
        baselines = {other: self.samples[other] for other in others if other in known}
        mine, flags = self.samples[name], self._flags_of(name)
        if name in self._outside:
            yield from (_flagged(row, flags) for row in outside_rows(mine, baselines))
            return
        yield from (_flagged(row, [*self._flags, *flags]) for row in time_rows(mine))
        for other, theirs in baselines.items():
            both = [*self._flags, *flags, *self._flags_of(other)]
            yield hedged(_flagged(speedup_row(mine, other, theirs), both))

    def _flags_of(self, name: str) -> list[str]:
        ready = next(each.ready for each in self.candidates if each.name == name)
        return [*ready.flags, *self.seen.flags]


def _flagged(row: Row, flags: list[str]) -> Row:
    return row | {"flags": list(dict.fromkeys([*row.get("flags", []), *flags]))}


def _excuse(each: Candidate) -> Iterator[Row]:
    why: Row = {"status": each.status, "reason": each.reason}
    yield {"metric": "time", "unit": "s", "stat": "median"} | why
    if each.error is not None:
        yield error_row(each.error) | why
