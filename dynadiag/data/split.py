"""A fixed set of examples and the order in which training sees them."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from functools import lru_cache
from typing import final

import numpy as np
import torch
from torch import Generator, Tensor

Batch = tuple[Tensor, Tensor]

# Streams of random numbers that must not meet, whatever the seed.
_ORDER, _AUGMENT, _HOLD_OUT = range(3)


def generator(*key: int) -> Generator:
    """Return a CPU generator seeded by all numbers of the key, each at least 0."""
    words = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return Generator().manual_seed(int(words[0]))


class Split(abc.ABC):
    """Examples by index, and batches of them that are pure functions of the seed and the step.

    Training goes through one epoch after the other, each in an order of its own; a batch may reach
    over the end of one. Nothing is remembered between calls, so a run resumes by its step alone.
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @abc.abstractmethod
    def take(self, indices: Tensor, generator: Generator | None = None) -> Batch:
        """Return the inputs and targets of some examples.

        Args:
            indices: (B,) int64.
            generator: what augmentation is drawn with; None leaves the examples as they are.

        Returns:
            Inputs (B, ...) and int64 targets (B, ...), on the CPU.
        """

    def indices(self, step: int, *, seed: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        """Return which examples an optimizer step trains on.

        Args:
            step: of the optimizer, from 0.
            seed: of the run.
            size: examples a step, over all ranks.
            rank: the process that asks.
            ranks: number of processes, each of which takes its share of the batch.

        Returns:
            (size / ranks,) int64.

        Raises:
            ValueError: the split is empty, or the ranks cannot share the batch evenly.
        """
        if size < 1 or size % ranks:
            raise ValueError(f"a batch of {size} is no positive multiple of {ranks} ranks")
        length = len(self)
        if length == 0:
            raise ValueError("the split holds no example; use a larger data set")
        pieces = []
        position, end = step * size, (step + 1) * size
        while position < end:
            epoch, first = divmod(position, length)
            piece = _order(length, seed, epoch)[first : first + end - position]
            pieces.append(piece)
            position += len(piece)
        return torch.cat(pieces)[rank::ranks]

    def batch(self, step: int, *, seed: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Return what an optimizer step trains on, augmented; arguments as for `indices`."""
        chosen = self.indices(step, seed=seed, size=size, rank=rank, ranks=ranks)
        return self.take(chosen, generator(_AUGMENT, seed, step, rank))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield every example once, in order, as it is; the last batch may be smaller."""
        for indices in torch.arange(len(self)).split(size):
            yield self.take(indices)

    def only(self, indices: Tensor) -> Subset:
        """Return the split of these examples alone, (n,) int64."""
        return Subset(self, indices)

    def hold_out(self, count: int) -> tuple[Subset, Subset]:
        """Divide at random, always alike, into all but `count` examples and those `count`.

        Raises:
            ValueError: there are not more than `count` examples.
        """
        if not 0 < count < len(self):
            raise ValueError(f"cannot hold out {count} of {len(self)} examples; give more data")
        order = torch.randperm(len(self), generator=generator(_HOLD_OUT))
        return self.only(order[count:].sort().values), self.only(order[:count].sort().values)


@final
class Subset(Split):
    """Some examples of another split; augmented if that one is.

    Attributes:
        split: where they come from.
        chosen: (n,) int64 indices into it.
    """

    def __init__(self, split: Split, chosen: Tensor) -> None:
        self.split = split
        self.chosen = chosen

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.chosen)

    def take(self, indices: Tensor, generator: Generator | None = None) -> Batch:
        """Return the inputs and targets of some examples, as `Split.take`."""
        return self.split.take(self.chosen[indices], generator)


@lru_cache(maxsize=4)
def _order(length: int, seed: int, epoch: int) -> Tensor:
    """Return the order of an epoch, (length,); kept, as a large one takes longer than a step."""
    return torch.randperm(length, generator=generator(_ORDER, seed, epoch))
