"""Choosing the largest scores, ties to the first, so that every machine keeps the same entries."""

from __future__ import annotations

from torch import Tensor


def largest(scores: Tensor, count: int) -> Tensor:
    """Return the mask of the `count` largest scores; among equals the first ones win."""
    flat = scores.flatten()
    threshold = flat.kthvalue(flat.numel() - count + 1).values
    kept = flat > threshold
    equal = (flat == threshold).nonzero()[: count - int(kept.sum()), 0]
    kept[equal] = True
    return kept.view_as(scores)


def largest_of_each(scores: Tensor, count: int) -> Tensor:
    """Return, rising, where each row has its `count` largest; among equals the first ones win."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return order[..., :count].sort(dim=-1).values
