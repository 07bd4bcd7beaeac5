from __future__ import annotations

import torch

from dynadiag.dst.methods import DiagHeuristic
from dynadiag.nn import DynamicDiagonalLinear

from .toy import build, train


def test_the_weakest_diagonals_give_way_to_random_others() -> None:
    method = DiagHeuristic(drop=0.5)
    layer = build(method, kept=10)
    grown = []
    for done in train(method, layer):
        moved = int(method.fraction(done.step, 24) * 10)
        assert int(done.dropped.sum()) == int(done.grown.sum()) == moved
        if moved:
            stayed = done.before & ~done.dropped
            assert done.strength[done.dropped].max() <= done.strength[stayed].min()
            grown.append(done.grown)
    assert len({tuple(mask.nonzero()[:, 0].tolist()) for mask in grown}) > 1


def test_nothing_but_updates_moves_the_selection() -> None:
    method = DiagHeuristic()
    layer = build(method, kept=6)
    assert isinstance(layer, DynamicDiagonalLinear)
    assert not layer.alpha.requires_grad
    selected = layer.active()
    for done in train(method, layer):
        assert torch.equal(done.before, selected)
        selected = done.after
    assert torch.equal(layer.active(), selected)
