"""The order in which the arms of a case take turns."""

from __future__ import annotations

import random
from collections.abc import Iterator


def orders(arms: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Endless orders of `arms` arms, one a round.

    They come in shuffled blocks, each a Williams design over a random naming of the arms
    (Australian Journal of Scientific Research 2, 1949): `arms` rounds, or twice as many for an odd
    number. Within a block every arm takes every position equally often and follows every other arm
    equally often, so neither a drift within the round nor what the arm before left in the caches
    can favour one.

    Raises:
        ValueError: if `arms` is below 1.
    """
    if arms < 1:
        raise ValueError(f"a round needs at least 1 arm, got {arms}")
    return _blocks(arms, random.Random(seed))


def _blocks(arms: int, rng: random.Random) -> Iterator[tuple[int, ...]]:
    names = list(range(arms))
    while True:
        rng.shuffle(names)
        block = [tuple(names[arm] for arm in row) for row in _williams(arms)]
        rng.shuffle(block)
        yield from block


def _williams(arms: int) -> list[list[int]]:
    """Return the rows of the design: 0, 1, n-1, 2, n-2, ... shifted, for odd n also reversed."""
    zigzag = [(i + 1) // 2 if i % 2 else -(i // 2) for i in range(arms)]
    rows = [[(step + shift) % arms for step in zigzag] for shift in range(arms)]
    return rows if arms % 2 == 0 else rows + [row[::-1] for row in rows]
