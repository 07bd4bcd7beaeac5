"""The processes of one run: this one alone, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@final
@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees them.

    Attributes:
        device: of this process.
        rank: of this process.
        count: number of processes.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def reseed(self, *key: int) -> None:
        """Start the generators of this process anew, from its rank and the key."""
        number = int(np.random.SeedSequence((*key, self.rank)).generate_state(1)[0])
        # torch.manual_seed also notes a stack trace for each device that is not there: 1 ms.
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model as it is called in training."""
        if self.count == 1:
            return model
        wrapped = DistributedDataParallel(model)
        # Buffers change alike on all ranks; torch 2.13 warns of this switch in the constructor.
        wrapped.broadcast_buffers = False
        return wrapped

    def gather(self, mine: Tensor, total: int) -> Tensor:
        """Return (total,) numbers of which this process has every count-th from its rank on."""
        if self.count == 1:
            return mine
        parts: list[Tensor] = [mine] * self.count
        distributed.all_gather_object(parts, mine)
        whole = torch.empty(total)
        for rank, part in enumerate(parts):
            whole[rank :: self.count] = part
        return whole


@contextmanager
def joined(device: str | None) -> Iterator[Ranks]:
    """Join the processes of the run for the time of the block.

    Args:
        device: of this process; None takes a CUDA device where there is one.
    """
    local = os.environ.get("LOCAL_RANK", "0")
    chosen = torch.device(device or (f"cuda:{local}" if torch.cuda.is_available() else "cpu"))
    if "RANK" not in os.environ:
        yield Ranks(chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(chosen, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
