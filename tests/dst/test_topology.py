from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynadiag.dst.topology import (
    cosine_fraction,
    exchange,
    prune_and_grow,
    random_scores,
    strongest,
)

SHAPES = st.sampled_from([(12,), (1,), (5, 7)])
# Few distinct values, so that ties are common.
SCORES = torch.tensor([0.0, 1.0, 2.0, -1.0, math.inf, -math.inf, math.nan])


@st.composite
def topologies(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A mask and two scores."""
    shape, density = draw(SHAPES), draw(st.floats(0, 1))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    active = torch.rand(shape, generator=generator) < density
    keep, grow = (SCORES[torch.randint(len(SCORES), shape, generator=generator)] for _ in range(2))
    return active, keep, grow


@given(topologies(), st.data())
def test_strongest_takes_exactly_the_best_and_among_equals_the_first(
    topology: tuple[torch.Tensor, torch.Tensor, torch.Tensor], data: st.DataObject
) -> None:
    among, scores, _ = topology
    count = data.draw(st.integers(0, int(among.sum())))
    flat = scores.nan_to_num(-math.inf, math.inf, -math.inf).flatten().tolist()
    places = among.flatten().nonzero()[:, 0].tolist()
    best = sorted(places, key=lambda place: (-flat[place], place))[:count]
    chosen = strongest(among, scores, count)
    assert chosen.shape == among.shape
    assert chosen.flatten().nonzero()[:, 0].tolist() == sorted(best)


@pytest.mark.parametrize("count", [-1, 3])
def test_strongest_refuses_a_count_there_is_not(count: int) -> None:
    among = torch.tensor([True, False, True])
    with pytest.raises(ValueError, match=rf"count is {count}, but there are 2 units.*0 to 2"):
        strongest(among, torch.zeros(3), count)


@given(topologies(), st.data())
def test_counts_are_exact_and_what_was_dropped_stays_out(
    topology: tuple[torch.Tensor, torch.Tensor, torch.Tensor], data: st.DataObject
) -> None:
    active, keep, promise = topology
    drop = data.draw(st.integers(0, int(active.sum())))
    grow = data.draw(st.integers(0, int((~active).sum())))
    after = prune_and_grow(active, keep, promise, drop, grow)
    assert int((active & ~after).sum()) == drop
    assert int((after & ~active).sum()) == grow


@given(topologies(), st.data())
def test_regrowing_counts_what_was_dropped_among_the_free(
    topology: tuple[torch.Tensor, torch.Tensor, torch.Tensor], data: st.DataObject
) -> None:
    active, keep, promise = topology
    drop = data.draw(st.integers(0, int(active.sum())))
    kept = strongest(active, keep, int(active.sum()) - drop)
    grow = data.draw(st.integers(0, int((~kept).sum())))
    after = prune_and_grow(active, keep, promise, drop, grow, regrow=True)
    assert int(after.sum()) == int(active.sum()) - drop + grow
    assert bool((after | ~kept).all())
    assert torch.equal(after & ~kept, strongest(~kept, promise, grow))


def test_a_dropped_unit_is_regrown_only_if_allowed() -> None:
    active = torch.tensor([True, True, False, False])
    keep, promise = torch.tensor([2.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 9.0, 1.0, 2.0])
    out = prune_and_grow(active, keep, promise, 1, 1)
    assert out.tolist() == [True, False, False, True]
    back = prune_and_grow(active, keep, promise, 1, 1, regrow=True)
    assert back.tolist() == [True, True, False, False]


@given(topologies(), st.floats(0, 0.99), st.booleans(), st.data())
def test_an_exchange_ends_with_the_count_asked_for(
    topology: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    fraction: float,
    regrow: bool,
    data: st.DataObject,
) -> None:
    active, keep, promise = topology
    kept = data.draw(st.integers(0, int(active.sum())))
    after = exchange(active, keep, promise, kept, fraction, regrow=regrow)
    assert int(after.sum()) == kept
    grown = int((after & ~active).sum())
    moving = int(fraction * kept)
    assert grown <= moving
    if not regrow:
        assert grown == min(moving, int((~active).sum()))


def test_inputs_are_left_as_they_are() -> None:
    active = torch.tensor([True, False, True])
    scores = torch.tensor([1.0, 2.0, 3.0])
    exchange(active, scores, scores, 2, 0.5)
    assert active.tolist() == [True, False, True]
    assert scores.tolist() == [1.0, 2.0, 3.0]


def test_random_scores_repeat_with_the_seed() -> None:
    active = torch.zeros(3, 4, dtype=torch.bool)
    first, again, other = (
        random_scores(active, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == active.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.3), (25, 0.15 * (1 + math.sqrt(0.5))), (50, 0.15), (100, 0.0)]
)
def test_the_fraction_falls_along_half_a_cosine(step: int, expected: float) -> None:
    assert cosine_fraction(step, 200, 0.3, 0.5) == pytest.approx(expected)


def test_the_fraction_stays_zero_after_the_end() -> None:
    assert cosine_fraction(170, 200, 0.3, 0.5) == 0.0
