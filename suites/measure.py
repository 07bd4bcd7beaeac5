"""One case, from its layers to its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dynadiag.bench.energy import Energy
from dynadiag.bench.memory import peak_bytes
from dynadiag.bench.paired import Benchmark, Precision, paired
from dynadiag.bench.records import Row, blank_row

from .arms import weight_bytes
from .calls import Call, Inputs
from .candidates import BASELINES, SUBJECT, Candidate, a_few, in_rounds, prepare
from .cases import Case
from .rows import (
    Samples,
    bytes_row,
    energy_row,
    error_row,
    outside_rows,
    peak_row,
    speedup_row,
    time_rows,
)

# What `backend="auto"` chooses from: the subject is compared with each.
BACKENDS = ("diagonal_cpu", "diagonal_dense")
OUTSIDE_S = 1.0


class Measurement:
    """What is known about one case.

    Attributes:
        candidates: its arms, built and checked.
        samples: seconds a call, by arm.
    """

    def __init__(self, case: Case, seed: int) -> None:
        inputs = Inputs.draw(case, seed)
        self.case, self.seed = case, seed
        self.candidates = [
            prepare(case, name, inputs, seed + i) for i, name in enumerate(case.arms)
        ]
        self.samples: dict[str, Samples] = {}
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
        calls = {name: ready[name].call for name in inside}
        result = paired(benchmark, calls, seed=self.seed, precision=precision)
        if result is not None:
            self._outside = ready.keys() - calls.keys()
            apart = {name: a_few(ready[name].call, OUTSIDE_S) for name in self._outside}
            self.samples, self._flags = result.samples | apart, list(result.flags)

    def rows(self, energy: Callable[[Call], Energy], **columns: Any) -> Iterator[Row]:
        """Yield the rows of every arm, then the one that closes the case.

        Args:
            energy: measures the joules of a call.
            columns: what the run adds to every row.
        """
        columns = self.case.columns | {"seed": self.seed} | columns
        for each in self.candidates:
            about = columns | {"arm": each.name} | each.arm.columns(each.layer, self.case)
            rows = self._arm(each, energy) if each.status == "ok" else _excuse(each)
            yield from (blank_row(**(about | row)) for row in rows)
        yield blank_row(**(columns | self._ending()))

    def _ending(self) -> Row:
        ending: Row = {"metric": "case", "unit": "1"}
        if self.samples:
            return ending | {"value": 1}
        return ending | {"status": "failed", "reason": "; ".join(self.troubles)}

    def _arm(self, each: Candidate, energy: Callable[[Call], Energy]) -> Iterator[Row]:
        yield from self._times(each.name)
        yield error_row(each.error)
        yield bytes_row(weight_bytes(each.layer))
        # The slow are called no more often than it takes to know.
        yield peak_row(peak_bytes(each.call, repeats=1 if each.name in self._outside else 3))
        yield energy_row(energy(each.call))

    def _times(self, name: str) -> Iterator[Row]:
        others = (*BASELINES, *BACKENDS) if name == SUBJECT else BASELINES
        known = self.samples.keys() - self._outside - {name}
        baselines = {other: self.samples[other] for other in others if other in known}
        mine, flags = self.samples[name], {"flags": self._flags}
        if name in self._outside:
            yield from outside_rows(mine, baselines)
            return
        yield from (row | flags for row in time_rows(mine))
        yield from (speedup_row(mine, other, theirs) | flags for other, theirs in baselines.items())


def _excuse(each: Candidate) -> Iterator[Row]:
    why: Row = {"status": each.status, "reason": each.reason}
    yield {"metric": "time", "unit": "s", "stat": "median"} | why
    if each.error is not None:
        yield error_row(each.error) | why
