from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dynadiag.dst.moments import forget_moments
from dynadiag.nn import DynamicDiagonalLinear, MaskedDenseLinear
from dynadiag.nn.dynamic import DynamicLinear


class Renamed(torch.optim.AdamW):
    """A subclass, which a table of known optimizers would miss."""


class Minimal(torch.optim.Optimizer):
    """An optimizer of nobody's: keeps whatever `states` makes of a parameter, and descends."""

    def __init__(self, params: Any, states: dict[str, Any]) -> None:
        super().__init__(params, {"lr": 0.1})
        self.states = states

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if not self.state[parameter]:
                    made = {name: make(parameter) for name, make in self.states.items()}
                    self.state[parameter].update(made)
                parameter.sub_(parameter.grad, alpha=group["lr"])


def _layers() -> list[DynamicLinear]:
    torch.manual_seed(0)
    return [
        DynamicDiagonalLinear(6, 9, sparsity=0.5),
        DynamicDiagonalLinear(9, 6, sparsity=0.5, bias=False),
        MaskedDenseLinear(6, 9, sparsity=0.5),
    ]


def _step(layer: DynamicLinear, optimizer: torch.optim.Optimizer) -> None:
    layer.set_dense_gradient(True)
    for _ in range(2):
        layer(torch.randn(5, layer.in_features)).square().sum().backward()
        optimizer.step()


def _changed(layer: DynamicLinear) -> Tensor:
    return torch.rand(layer.active().shape) < 0.4


def _moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    return {
        name: state.clone()
        for name, state in optimizer.state[parameter].items()
        if isinstance(state, Tensor)
    }


OPTIMIZERS = [
    lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    lambda params: torch.optim.Adam(params, amsgrad=True),
    lambda params: torch.optim.AdamW(params, fused=True),
    lambda params: torch.optim.RMSprop(params, momentum=0.9, centered=True),
    lambda params: Renamed(params),
    lambda params: Minimal(params, {"anything": torch.ones_like}),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("index", range(3))
def test_all_moments_of_changed_units_are_forgotten_and_no_others(make: Any, index: int) -> None:
    layer = _layers()[index]
    optimizer = make(layer.parameters())
    _step(layer, optimizer)
    changed = _changed(layer)
    forgotten = {"values": layer.over_values(changed).expand_as(layer.values), "alpha": changed}
    before = {parameter: _moments(optimizer, parameter) for parameter in layer.parameters()}
    forget_moments(optimizer, layer, changed)
    for name, parameter in layer.named_parameters():
        for state, old in before[parameter].items():
            new = optimizer.state[parameter][state]
            if old.shape != parameter.shape or name == "bias":
                assert torch.equal(new, old)
            else:
                assert old[forgotten[name]].count_nonzero() > 0
                assert torch.equal(new, old.masked_fill(forgotten[name], 0))


def test_states_of_other_shapes_and_of_codes_stay() -> None:
    layer = _layers()[2]
    states = {
        "row": lambda parameter: torch.ones(len(parameter)),
        "column": lambda parameter: torch.ones(parameter.shape[-1]),
        "codes": lambda parameter: torch.full(parameter.shape, 128, dtype=torch.uint8),
        "name": lambda parameter: "of no tensor",
    }
    optimizer = Minimal(layer.parameters(), states)
    _step(layer, optimizer)
    forget_moments(optimizer, layer, torch.ones_like(layer.active()))
    state = optimizer.state[layer.values]
    assert state["name"] == "of no tensor"
    assert state["row"].all()
    assert state["column"].all()
    assert (state["codes"] == 128).all()


def test_an_optimizer_that_has_not_stepped_gets_no_state() -> None:
    layer = _layers()[0]
    optimizer = torch.optim.AdamW(layer.parameters())
    forget_moments(optimizer, layer, torch.ones_like(layer.active()))
    assert not optimizer.state


def test_a_frozen_alpha_has_nothing_to_forget() -> None:
    layer = DynamicDiagonalLinear(6, 9, sparsity=0.5, bias=False)
    layer.alpha.requires_grad_(False)
    optimizer = torch.optim.AdamW([layer.values])
    _step(layer, optimizer)
    forget_moments(optimizer, layer, torch.ones_like(layer.active()))
    assert not optimizer.state[layer.values]["exp_avg"].any()
    assert layer.alpha not in optimizer.state
