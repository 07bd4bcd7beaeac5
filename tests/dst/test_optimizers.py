from __future__ import annotations

from typing import Any

import pytest
import torch

from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.scheduler import Scheduler

from .trainings import (
    RATE,
    TOTAL,
    are_equal,
    get_loss,
    get_topology,
    make_model,
    train,
)


def test_an_update_starts_what_it_grew_afresh() -> None:
    model = make_model("rigl")
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    train(model, optimizer, scheduler, range(5))
    before = get_topology(model)
    get_loss(model, 5).backward()
    layers = dynamic_layers(model)
    dense = {}
    for name, layer in layers.items():
        assert layer.values.grad is not None
        dense[name] = layer.values.grad.clone()
    optimizer.step()
    for name, layer in layers.items():
        active = layer.active()
        grown, momentum = active & ~before[name], optimizer.state[layer.values]["momentum_buffer"]
        assert grown.any()
        assert dense[name][~before[name]].count_nonzero() > 0
        assert torch.equal(momentum[grown], dense[name][grown])
        assert torch.equal(layer.values[grown], -RATE * dense[name][grown])
        assert not layer.values[~active].any()
        assert not momentum[~active].any()


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal: moves every entry of a matrix, also those without a gradient."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": RATE})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.mul_(0.9).add_(parameter.grad)
                move = momentum
                if move.ndim == 2:
                    u, _, v = torch.linalg.svd(move, full_matrices=False)
                    move = u @ v
                parameter.sub_(move, alpha=group["lr"])


class Factored(torch.optim.Optimizer):
    """Adafactor in short: a second moment of rows and columns."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": RATE})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                square = parameter.grad.square() + 1e-30
                state = self.state[parameter]
                rows, columns = square.mean(-1, keepdim=True), square.mean(0, keepdim=True)
                state["rows"] = state.get("rows", rows).lerp(rows, 0.1)
                state["columns"] = state.get("columns", columns).lerp(columns, 0.1)
                scale = (state["rows"] * state["columns"] / state["rows"].mean()).rsqrt()
                parameter.sub_(parameter.grad * scale.clamp(max=10), alpha=group["lr"])


@pytest.mark.parametrize("kind", [Muon, Factored, torch.optim.Adagrad, torch.optim.RAdam])
@pytest.mark.parametrize(
    ("method", "options"), [("rigl", {}), ("dynadiag", {"learn_alpha": True, "bound": "hard"})]
)
def test_any_optimizer_trains_within_the_topology(
    kind: Any, method: str, options: dict[str, Any]
) -> None:
    model = make_model(method, **options)
    kept = [layer.kept for layer in dynamic_layers(model).values()]
    start = get_topology(model)
    optimizer = kind(model.parameters())
    first = get_loss(model, 0).item()
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    train(model, optimizer, scheduler, range(TOTAL), lambda model, step: get_loss(model, 0))
    assert get_loss(model, 0).item() < first
    assert not are_equal(get_topology(model), start)
    assert [layer.kept for layer in dynamic_layers(model).values()] == kept
    for layer in dynamic_layers(model).values():
        per_unit = layer.values.numel() // layer.units
        assert layer.weight.count_nonzero() <= layer.kept * per_unit
