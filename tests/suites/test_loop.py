"""The stand-in for pytest-benchmark's fixture."""

from __future__ import annotations

import itertools

import numpy as np

from dynadiag.bench.paired import PRECISIONS, paired
from suites.loop import Loop

_moments = itertools.count()


class Counted:
    """A clock that moves by a second whenever it is read."""

    def __init__(self) -> None:
        self.at = next(_moments)

    def __sub__(self, start: Counted, /) -> float:
        return float(self.at - start.at)


def test_rounds_are_timed_between_setup_and_teardown() -> None:
    order: list[str] = []
    loop = Loop(Counted)
    loop.pedantic(
        lambda: order.append("target"),
        setup=lambda: order.append("setup"),
        teardown=lambda: order.append("teardown"),
        rounds=2,
    )
    assert order == ["setup", "target", "teardown"] * 2
    assert loop.stats.stats.data == [1.0, 1.0]


def test_paired_takes_it_for_the_fixture() -> None:
    result = paired(Loop(Counted), {"a": int, "b": int}, seed=0, precision=PRECISIONS["quick"])
    assert result is not None
    assert len(result.samples["a"]) == len(result.samples["b"]) == result.rounds
    assert np.all(result.samples["a"] == 1.0)
