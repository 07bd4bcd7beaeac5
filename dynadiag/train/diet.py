"""Which examples a run trains on: all of them, or from some step on only those worth it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

from torch import Tensor

from dynadiag.data import Split
from dynadiag.dst.forgetting import Forgetting
from dynadiag.dst.method import Method
from dynadiag.dst.methods.mest import MEST
from dynadiag.train.run import Run


@final
class Diet:
    """Drops the examples that were forgotten least, if the method asks for it (MEST).

    Args:
        split: what is trained on.
        run: whose seed and batch say which examples a step sees.
        method: of the run; None for a dense one.
    """

    def __init__(self, split: Split, run: Run, method: Method | None) -> None:
        self._split, self._seed, self._size = split, run.seed, run.recipe.batch
        self._until = run.recipe.steps
        self._removed = 0.0
        self._forgetting: Forgetting | None = None
        if isinstance(method, MEST) and method.remove_examples:
            self._until = int(method.remove_at * run.recipe.steps)
            self._removed = method.remove_examples
            self._forgetting = Forgetting(len(split))

    def courses(self, start: int, stop: int) -> Iterator[tuple[Split, range]]:
        """Yield what is trained on in which steps; the last choice is made when its turn comes."""
        if start < self._until:
            yield self._split, range(start, min(stop, self._until))
        if stop > self._until and self._forgetting is not None:
            rest = self._split.only(self._forgetting.keep(self._removed))
            yield rest, range(max(start, self._until), stop)

    def counts(self, step: int) -> bool:
        """Return whether the answers of a step have to be recorded."""
        return self._forgetting is not None and step < self._until

    def record(self, step: int, right: Tensor) -> None:
        """Note which examples of a step, of all processes, were answered right, (batch,) bool."""
        assert self._forgetting is not None
        seen = self._split.indices(step, seed=self._seed, size=self._size)
        self._forgetting.record(seen, right)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, for a checkpoint."""
        return {} if self._forgetting is None else self._forgetting.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the counts of a checkpoint."""
        if self._forgetting is not None:
            self._forgetting.load_state_dict(state)
