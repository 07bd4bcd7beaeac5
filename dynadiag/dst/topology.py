"""The shared core of the training methods: which units to keep, drop and grow, as pure functions.

A *unit* is what a method switches on and off as one: an entry of a weight, or a diagonal. Counts
are always met exactly, and among equal scores the first unit wins, so that every rank and every
machine arrives at the same topology without a message.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..nn.selection import largest


def cosine_fraction(step: int, total: int, start: float, until: float) -> float:
    """Return the share of connections to exchange, falling from `start` to 0 along half a cosine.

    f = start / 2 · (1 + cos(π step / (until · total))), and 0 from there on; RigL,
    arXiv 1911.11134, section 3.

    Args:
        step: optimizer steps taken so far.
        total: optimizer steps of the whole training.
        start: the share at step 0.
        until: share of the training after which nothing is exchanged any more.
    """
    progress = min(1.0, step / (until * total))
    return start / 2 * (1 + math.cos(math.pi * progress))


def random_scores(active: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random score for every unit, drawn on the CPU so that all devices agree."""
    return torch.rand(active.shape, generator=generator).to(active.device)


def strongest(among: Tensor, scores: Tensor, count: int) -> Tensor:
    """Return the mask of the `count` units of `among` with the largest scores, NaN counting least.

    Args:
        among: bool, the units to choose from.
        scores: of every unit, in the shape of `among`.
        count: how many to choose.

    Raises:
        ValueError: `among` does not hold that many units.
    """
    places = among.flatten().nonzero()[:, 0]
    if not 0 <= count <= len(places):
        raise ValueError(
            f"count is {count}, but there are {len(places)} units to choose from; "
            f"pass 0 to {len(places)}"
        )
    chosen = torch.zeros(among.numel(), dtype=torch.bool, device=among.device)
    if count:
        ranked = scores.flatten()[places].nan_to_num(-math.inf, math.inf, -math.inf)
        chosen[places[largest(ranked, count)]] = True
    return chosen.view(among.shape)


def prune_and_grow(
    active: Tensor,
    keep_scores: Tensor,
    grow_scores: Tensor,
    drop: int,
    grow: int,
    *,
    regrow: bool = False,
) -> Tensor:
    """Return the topology after the weakest active units made room for promising inactive ones.

    Args:
        active: bool, the units in use.
        keep_scores: how much each active unit is worth.
        grow_scores: how much each inactive unit promises.
        drop: how many active units to drop.
        grow: how many units to make active.
        regrow: whether a unit just dropped may be grown again at once, and so stay as it is.

    Raises:
        ValueError: fewer than `drop` units are active, or fewer than `grow` can be grown.
    """
    kept = strongest(active, keep_scores, int(active.sum()) - drop)
    free = ~kept if regrow else ~active
    return kept | strongest(free, grow_scores, grow)


def exchange(
    active: Tensor,
    keep_scores: Tensor,
    grow_scores: Tensor,
    kept: int,
    fraction: float,
    *,
    regrow: bool = False,
) -> Tensor:
    """Return a topology of `kept` units, of which the share `fraction` was grown anew.

    Where too few units are inactive to exchange that share, as many as there are change places.

    Args:
        active: bool, the units in use, at least `kept`.
        keep_scores: how much each active unit is worth.
        grow_scores: how much each inactive unit promises.
        kept: how many units to have afterwards.
        fraction: of `kept`, rounded down.
        regrow: as in `prune_and_grow`.
    """
    now = int(active.sum())
    moving = int(fraction * kept)
    if not regrow:
        moving = min(moving, active.numel() - now)
    drop = now - kept + moving
    return prune_and_grow(active, keep_scores, grow_scores, drop, moving, regrow=regrow)
