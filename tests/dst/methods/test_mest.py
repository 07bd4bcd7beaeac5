from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from dynadiag.dst.methods import MEST
from dynadiag.nn.dynamic import DynamicLinear

from .toy import TOTAL, build, train


def counts(method: MEST, layer: DynamicLinear) -> list[tuple[int, int, int]]:
    """The weights dropped, grown and there afterwards in each update."""
    return [
        (int(done.dropped.sum()), int(done.grown.sum()), layer.kept)
        for done in train(method, layer)
    ]


def test_the_hard_bound_is_never_exceeded() -> None:
    rows = counts(MEST(every=4), build(MEST(), kept=100))
    assert all(dropped == grown and kept == 100 for dropped, grown, kept in rows)
    moved = [dropped for dropped, _, _ in rows]
    assert moved[0] == int(MEST().fraction(1, TOTAL) * 100)
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] == 0


def test_the_soft_bound_is_the_target_plus_a_gap_that_closes() -> None:
    method = MEST(bound="soft")
    layer = build(method, kept=100)
    assert layer.kept == 100
    rows = counts(method, layer)
    kept = [after for _, _, after in rows]
    assert rows[0][0] == 0
    assert kept[0] == 119
    assert max(kept) <= 120
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 100
    for (_, extra, _), (dropped, _, _) in pairwise(rows):
        assert dropped == extra


@pytest.mark.parametrize("bound", ["hard", "soft"])
@pytest.mark.parametrize("kept", [1, 300, 510, 512])
def test_bounds_stay_within_the_layer(bound: str, kept: int) -> None:
    method = MEST(bound=bound, drop=0.9)
    layer = build(method, kept=kept)
    assert all(1 <= after <= 512 for _, _, after in counts(method, layer))
    assert layer.kept == kept


def test_importance_adds_the_gradients_of_the_weights_there_are() -> None:
    method = MEST(gradient_weight=1e6)
    layer = build(method, kept=100)
    for done in train(method, layer):
        gradient = layer.gradient_strength()
        assert not gradient[~done.before].any()
        stayed = done.before & ~done.dropped
        if done.dropped.any():
            assert gradient[done.dropped].max() <= gradient[stayed].min()
    assert not method.needs_gradient


def test_without_gradient_weight_the_smallest_weights_leave() -> None:
    method = MEST()
    layer = build(method, kept=100)
    for done in train(method, layer):
        stayed = done.before & ~done.dropped
        if done.dropped.any():
            assert done.strength[done.dropped].max() <= done.strength[stayed].min()


def test_growth_is_random_by_step() -> None:
    grown = [done.grown for done in train(MEST(), build(MEST(), kept=100))]
    assert not torch.equal(grown[0], grown[1])
