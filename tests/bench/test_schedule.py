from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import pytest

from dynadiag.bench.schedule import orders


@pytest.mark.parametrize("arms", [1, 2, 3, 7])
def test_every_arm_takes_every_position_equally_often(arms: int) -> None:
    blocks = 5
    taken = Counter(
        (arm, position)
        for order in islice(orders(arms, seed=1), 2 * arms * blocks)
        for position, arm in enumerate(order)
    )
    assert taken == {(arm, place): 2 * blocks for arm in range(arms) for place in range(arms)}


@pytest.mark.parametrize("arms", [2, 3, 4, 7, 12])
def test_every_arm_follows_every_other_equally_often(arms: int) -> None:
    rounds = islice(orders(arms, seed=0), 2 * arms)
    pairs = Counter(pair for order in rounds for pair in pairwise(order))
    assert pairs == {(a, b): 2 for a in range(arms) for b in range(arms) if a != b}


def test_the_seed_decides_the_order() -> None:
    first, again, other = (list(islice(orders(5, seed), 30)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_round_needs_an_arm() -> None:
    with pytest.raises(ValueError, match="at least 1 arm, got 0"):
        orders(0, seed=0)
