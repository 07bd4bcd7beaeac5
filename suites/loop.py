"""The timer of samples where pytest-benchmark's fixture is not at hand, or is used up."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from dynadiag.bench.clocks import Stamp
from dynadiag.bench.paired import Call


class Loop:
    """Times rounds as the fixture's `pedantic` does; it may be used once, as the fixture may.

    Attributes:
        enabled: True: a loop always times.
        stats: `stats.stats.data` are the seconds, once it has run.
    """

    enabled = True

    def __init__(self, stamp: Callable[[], Stamp]) -> None:
        self._stamp = stamp
        self._seconds: list[float] = []
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=self._seconds))

    def pedantic(self, target: Call, *, setup: Call, teardown: Call, rounds: int) -> None:
        """Time `target` for so many rounds, each between `setup` and `teardown`."""
        for _ in range(rounds):
            setup()
            start = self._stamp()
            target()
            end = self._stamp()
            self._seconds.append(end - start)
            teardown()
