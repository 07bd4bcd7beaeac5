"""One layer trained on a toy task, its method driven as a Scheduler drives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynadiag.dst.method import Method
from dynadiag.nn.dynamic import DynamicLinear

TOTAL = 24
RATE = 0.01


@dataclass(frozen=True)
class Update:
    """What one update did to a layer, whose gradients are still those it saw."""

    step: int
    layer: DynamicLinear
    before: Tensor
    strength: Tensor
    values: Tensor
    after: Tensor
    changed: Tensor | None

    @property
    def dropped(self) -> Tensor:
        return self.before & ~self.after

    @property
    def grown(self) -> Tensor:
        return self.after & ~self.before


def build(
    method: Method,
    out_features: int = 32,
    in_features: int = 16,
    kept: int = 6,
    seed: int = 0,
    device: str = "cpu",
) -> DynamicLinear:
    """A layer that keeps so many units of the method."""
    torch.manual_seed(seed)
    linear = nn.Linear(in_features, out_features, device=device)
    layer = method.build(linear, kept, torch.Generator().manual_seed(seed))
    assert isinstance(layer, DynamicLinear)
    layer.method = method
    return layer


def train(method: Method, layer: DynamicLinear, total: int = TOTAL) -> Iterator[Update]:
    """Take `total` steps of AdamW, stopping after every update of the topology."""
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE)
    batches = torch.Generator().manual_seed(0)
    task = torch.randn(layer.in_features, layer.out_features, generator=batches)
    for step in range(total):
        method.advance(layer, step, total)
        updates = method.updates(step, total)
        layer.set_dense_gradient(updates and method.needs_gradient)
        optimizer.zero_grad()
        x = torch.randn(16, layer.in_features, generator=batches)
        (
            layer(x.to(layer.values.device)) - (x @ task).to(layer.values.device)
        ).square().mean().backward()
        if updates:
            yield update(method, layer, step, total)
        layer.mask_gradients()
        optimizer.step()
        method.after_step(layer, RATE)


def update(method: Method, layer: DynamicLinear, step: int, total: int = TOTAL) -> Update:
    """Let a method update a layer that has its gradients."""
    before, strength, values = layer.active(), layer.strength(), layer.values.detach().clone()
    changed = method.update(layer, step, total, torch.Generator().manual_seed(step))
    return Update(step, layer, before, strength, values, layer.active(), changed)
