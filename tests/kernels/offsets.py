"""Offsets to draw problems with."""

from __future__ import annotations

import torch
from torch import Tensor


def some_offsets(candidates: int, k: int) -> Tensor:
    """Return k offsets in random order; the first few of them wrap at both ends."""
    ends = torch.tensor([candidates - 1, 0, 1, candidates // 2, candidates - 2])
    both = torch.cat([ends, torch.randperm(candidates)]).remainder(candidates).tolist()
    chosen = torch.tensor(list(dict.fromkeys(both))[:k], dtype=torch.int32)
    return chosen[torch.randperm(len(chosen))]
