"""Batches prepared by worker processes, in the same order as without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import Generator
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .split import Batch, Split


@final
@dataclass(frozen=True)
class _Steps(TorchDataset[Batch]):
    """The batches of a run as a torch data set: item `step` is what that step trains on."""

    split: Split
    seed: int
    size: int
    rank: int
    ranks: int

    def __getitem__(self, step: int) -> Batch:
        return self.split.batch(
            step, seed=self.seed, size=self.size, rank=self.rank, ranks=self.ranks
        )


def loader(
    split: Split,
    steps: range,
    *,
    seed: int,
    size: int,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield `split.batch(step, ...)` for each step, the next ones prepared meanwhile.

    Args:
        split: what is trained on.
        steps: of the optimizer; a resumed run starts where it stopped.
        seed: of the run.
        size: examples a step, over all ranks.
        rank: the process that asks.
        ranks: number of processes, each of which takes its share of the batch.
        workers: processes that prepare batches; 0 prepares them in this one.
    """
    batches = _Steps(split, seed, size, rank, ranks)
    # A generator of its own: the loader seeds its workers by a draw, from the global one if there
    # is no other, and dropout would then differ between a run and its resumption.
    yield from DataLoader(
        batches, batch_size=None, sampler=steps, num_workers=workers, generator=Generator()
    )
