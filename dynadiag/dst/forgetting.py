"""Which training examples a model forgets, and which it can do without (MEST's data efficiency)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor


@final
class Forgetting:
    """Counts, for every training example, how often it went from right to wrong.

    Examples that are never forgotten teach little more and can be dropped; those never learned
    count as forgotten most of all. See Toneva et al., arXiv 1812.05159, and MEST, NeurIPS 2021.

    Args:
        examples: size of the training set; an example is known by its place in it.
    """

    def __init__(self, examples: int) -> None:
        if examples < 1:
            raise ValueError(f"examples is {examples}, but a training set has at least 1")
        self._right = torch.zeros(examples, dtype=torch.bool)
        self._learned = torch.zeros(examples, dtype=torch.bool)
        self._events = torch.zeros(examples, dtype=torch.int64)

    @property
    def events(self) -> Tensor:
        """(examples,) int64: forgetting events; those never right count one more than any other."""
        most = self._events.max() + 1
        return torch.where(self._learned, self._events, most)

    def record(self, examples: Tensor, right: Tensor) -> None:
        """Note how examples were answered when the model was last trained on them.

        Args:
            examples: (n,) places in the training set, each at most once.
            right: (n,) bool.
        """
        examples, right = examples.cpu(), right.cpu()
        self._events[examples] += (self._right[examples] & ~right).long()
        self._learned[examples] |= right
        self._right[examples] = right

    def keep(self, removed: float) -> Tensor:
        """Return the places, rising, of the examples left when a share of them is dropped.

        The least forgotten go first; among equals, those that come first.

        Args:
            removed: share of all examples, in [0, 1).

        Returns:
            (n,) int64, n = examples - ⌊removed · examples⌋.
        """
        if not 0 <= removed < 1:
            raise ValueError(f"removed is {removed}, but must be a share in [0, 1)")
        events = self.events
        return events.argsort(stable=True)[int(removed * len(events)) :].sort().values

    def state_dict(self) -> dict[str, Tensor]:
        """Return the counts, for a checkpoint."""
        return {"right": self._right, "learned": self._learned, "events": self._events}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the counts of a checkpoint.

        Raises:
            ValueError: they are of a training set of another size.
        """
        if len(state["events"]) != len(self._events):
            raise ValueError(
                f"the counts are of {len(state['events'])} examples, but this training set has "
                f"{len(self._events)}; load those of the same data"
            )
        self._right.copy_(state["right"])
        self._learned.copy_(state["learned"])
        self._events.copy_(state["events"])
