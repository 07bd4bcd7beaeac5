"""What each candidate diagonal counts for, alpha~, given the trained alpha (arXiv 2506.11449, 3.1).

A selection takes alpha (P,), the number k of diagonals wanted (0-dim integer tensor) and a
temperature (0-dim tensor), and returns alpha~ (P,), in float32 or, for a float64 alpha, in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..khot import khot_weights, straight_through, wide

Selection = Callable[[Tensor, Tensor, Tensor], Tensor]


def soft_topk(alpha: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Return min(k softmax(alpha / T), 1), eq. 5 of the paper.

    The sum is k only while nothing is clipped: as T falls it collapses towards one diagonal.
    """
    return (k * torch.softmax(wide(alpha) / temperature, 0)).clamp(max=1)


def khot(alpha: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Return sigmoid((alpha - tau) / T) with the tau that makes it sum to k.

    tau moves with alpha, so that a gradient shifts weight among diagonals but none into or out
    of the sum. There are first derivatives only.
    """
    return khot_weights(wide(alpha), k, temperature)


def hard_topk(alpha: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Return exactly 1 for the k largest alpha and 0 for the rest.

    The gradient is straight-through, that of `khot`: only the k selected hand theirs on, but to
    every alpha, as one diagonal gains only what others lose. There are first derivatives only.
    """
    offsets, chosen = largest_first(alpha, k, len(alpha))
    return straight_through(wide(alpha), offsets, chosen, k, temperature)


def largest_first(alpha: Tensor, k: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return where the `most` largest alpha are, rising, and which of those are the k largest."""
    offsets, rank = ranking(alpha)[:most].sort()
    return offsets, rank < k


def ranking(alpha: Tensor) -> Tensor:
    """Return the diagonals from the largest alpha to the smallest, ties by index."""
    return alpha.detach().float().sort(descending=True, stable=True).indices


def check_selection(name: str) -> None:
    """Raise ValueError unless this is the name of a selection."""
    if name not in SELECTIONS:
        raise ValueError(f"unknown selection '{name}'; known are {', '.join(SELECTIONS)}")


SELECTIONS: dict[str, Selection] = {"hard_topk": hard_topk, "khot": khot, "soft_topk": soft_topk}
