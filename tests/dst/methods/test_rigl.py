from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.dst.method import Method
from dynadiag.dst.methods import RigL
from dynadiag.nn import MaskedDenseLinear

from .toy import Update, build, train, update


def with_gradients(method: Method, weight: list[float], gradient: list[float]) -> Update:
    """The update, at the first of 100 steps, of a layer with one output."""
    layer = method.build(nn.Linear(len(weight), 1), 4, torch.Generator())
    assert isinstance(layer, MaskedDenseLinear)
    values = torch.tensor([weight])
    layer.set_active(values != 0)
    with torch.no_grad():
        layer.values.copy_(values)
    layer.values.grad = torch.tensor([gradient], dtype=torch.float32)
    return update(method, layer, 0, 100)


def test_the_smallest_weights_give_way_to_the_largest_gradients() -> None:
    done = with_gradients(
        RigL(drop=0.5), [3.0, -0.1, 0.2, -4.0, 0.0, 0.0, 0.0, 0.0], [9, 0, 1, 9, -3, 2, -5, 0]
    )
    assert done.after.tolist() == [[True, False, False, True, True, False, True, False]]
    assert done.layer.values.tolist() == [[3.0, 0.0, 0.0, -4.0, 0.0, 0.0, 0.0, 0.0]]


def test_a_weight_with_a_large_gradient_is_regrown_as_it_was() -> None:
    done = with_gradients(
        RigL(drop=0.5), [3.0, -0.5, 0.25, -4.0, 0.0, 0.0, 0.0, 0.0], [0, 0, 7, 0, -3, 2, -5, 0]
    )
    assert done.after.tolist() == [[True, False, True, True, False, False, True, False]]
    assert done.layer.values[0, 2] == 0.25
    assert done.changed is not None
    assert done.changed.nonzero()[:, 1].tolist() == [1, 6]


@pytest.mark.parametrize("step", range(1, 16, 4))
def test_each_update_exchanges_the_share_of_its_step(step: int) -> None:
    method = RigL()
    layer = build(method, kept=100)
    for done in train(method, layer):
        if done.step == step:
            gradient = layer.gradient_strength()
            assert 0 < int(done.grown.sum()) <= int(method.fraction(step, 24) * 100)
            kept = done.before & ~done.dropped
            least = gradient[done.grown].min()
            assert least >= gradient[~kept & ~done.grown].max()
            assert done.strength[done.dropped].max() <= done.strength[kept].max()


def test_a_full_layer_stays_full() -> None:
    method = RigL()
    layer = build(method, kept=512)
    assert all(bool(done.after.all()) for done in train(method, layer))
