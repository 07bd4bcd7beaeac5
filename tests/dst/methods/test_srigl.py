from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dynadiag.dst.methods import SRigL
from dynadiag.dst.methods.srigl import strongest_of_each
from dynadiag.nn import CondensedLinear, CSRLinear, SparseLinear
from dynadiag.nn.dynamic import DynamicLinear

from .toy import build, train, update


def rows(*inputs: int) -> Tensor:
    """Salient weights of neurons."""
    return torch.tensor(inputs)


def fan_ins(active: Tensor) -> set[int]:
    return set(active.sum(1).tolist())


@pytest.mark.parametrize("options", [{}, {"gamma": 0.0}, {"gamma": 1.0}])
def test_all_neurons_have_the_same_inputs_or_none(options: dict[str, Any]) -> None:
    method = SRigL(**options)
    layer = build(method, kept=5)
    assert fan_ins(layer.active()) == {5}
    for done in train(method, layer):
        alive = int(done.after.any(1).sum())
        fan_in = 5 * 32 // alive
        assert fan_ins(done.after) <= {0, fan_in}
        assert layer.kept == fan_in * alive <= layer.num_active_target == 160
        if method.gamma == 0:
            assert alive == 32


def test_high_gamma_ablates_neurons_and_gives_their_inputs_to_others() -> None:
    method = SRigL(gamma=1.0, drop=0.6)
    layer = build(method, kept=3)
    last = list(train(method, layer))[-1]
    assert 0 in fan_ins(last.after)
    assert max(fan_ins(last.after)) > 3


def test_neurons_below_the_share_of_the_fan_in_are_ablated() -> None:
    active = torch.ones(4, 10, dtype=torch.bool)
    counts = rows(0, 2, 3, 9)
    assert SRigL().surviving(counts, active, 12).tolist() == [False, False, True, True]
    assert SRigL(gamma=0.1).surviving(counts, active, 12).tolist() == [False, True, True, True]
    assert SRigL(gamma=0.01).surviving(counts, active, 12).tolist() == [False, True, True, True]
    assert SRigL(gamma=0.0).surviving(counts, active, 12).tolist() == [True] * 4


def test_enough_neurons_survive_to_hold_the_weights() -> None:
    active = torch.ones(4, 10, dtype=torch.bool)
    kept = SRigL(gamma=1.0).surviving(rows(2, 5, 5, 5), active, 21)
    assert kept.tolist() == [False, True, True, True]
    kept = SRigL(gamma=1.0).surviving(rows(2, 5, 5, 5), active, 11)
    assert kept.tolist() == [False, True, True, False]


def test_each_row_is_cut_by_magnitude() -> None:
    scores = torch.tensor([[5.0, 1.0, 3.0, 3.0], [1.0, 2.0, 0.0, 9.0]])
    among = torch.tensor([[True, True, True, True], [True, False, False, False]])
    cut = strongest_of_each(among, scores, 2)
    assert cut.tolist() == [[True, False, True, False], [True, False, False, False]]


def ruled(weight: Tensor, gradient: Tensor, target: int) -> DynamicLinear:
    layer = build(SRigL(), weight.shape[0], weight.shape[1], kept=1)
    layer.num_active_target = target
    layer.set_active(weight != 0)
    with torch.no_grad():
        layer.values.copy_(weight)
    layer.values.grad = gradient
    return layer


def test_the_steps_of_an_update_by_hand() -> None:
    weight = torch.tensor([[9.0, 8.0, 7.0, 0.0], [0.2, 0.0, 0.1, 0.0], [6.0, 0.0, 0.4, 5.0]])
    gradient = torch.zeros(3, 4)
    gradient[0, 3], gradient[2, 1] = 2.0, 1.0
    layer = ruled(weight, gradient, 8)
    # 4 of 8 weights move: 9, 8, 7, 6 stay; salient besides are (0, 3), (2, 1) and, among equal
    # gradients of zero, (0, 0) and (0, 1). The second neuron has nothing; the others share 8.
    after = update(SRigL(drop=0.5), layer, 0, 100).after
    assert after.tolist() == [[True] * 4, [False] * 4, [True] * 4]


@pytest.mark.parametrize(
    ("weight", "kind"),
    [
        ([[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]], CondensedLinear),
        ([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], CSRLinear),
    ],
)
def test_only_ablated_neurons_keep_a_layer_from_being_condensed(
    weight: list[list[float]], kind: type[SparseLinear]
) -> None:
    layer = ruled(torch.tensor(weight), torch.zeros(2, 3), 4)
    compact = SRigL().compact(layer)
    assert type(compact) is kind
    assert torch.equal(compact.weight, layer.weight)
    assert compact.nnz == layer.kept
