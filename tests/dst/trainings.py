"""Small trainings of converted models that the tests of the Scheduler share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dynadiag.dst.convert import convert_
from dynadiag.dst.groups import param_groups
from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.scheduler import Scheduler
from dynadiag.nn import DynamicDiagonalLinear

TOTAL = 20
RATE = 0.05


def make_model(
    method: str = "rigl", seed: int = 0, sparsity: float = 0.7, **options: Any
) -> nn.Sequential:
    """A converted perceptron of two sparse layers, wide and tall, and a dense head."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU())
    model.append(nn.Linear(16, 3))
    convert_(model, sparsity=sparsity, method=method, exclude=["4"], seed=seed, **options)
    return model


def make_optimizer(model: nn.Module, **options: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(param_groups(model, weight_decay=0.01), lr=RATE, **options)


def make_batch(step: int, rows: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(rows, 12, generator=generator)
    return x, torch.randint(3, (rows,), generator=generator)


def get_loss(model: nn.Module, step: int) -> Tensor:
    x, labels = make_batch(step)
    return nn.functional.cross_entropy(model(x), labels)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Scheduler,
    steps: range,
    loss: Callable[[nn.Module, int], Tensor] = get_loss,
) -> None:
    for step in steps:
        loss(model, step).backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def train_anew(model: nn.Module, steps: int = TOTAL, **options: Any) -> nn.Module:
    """Train a model with an optimizer and a Scheduler of its own."""
    optimizer = make_optimizer(model, **options)
    train(model, optimizer, Scheduler(model, optimizer, total_steps=TOTAL), range(steps))
    return model


def get_diagonals(model: nn.Module) -> dict[str, DynamicDiagonalLinear]:
    layers = dynamic_layers(model).items()
    return {name: layer for name, layer in layers if isinstance(layer, DynamicDiagonalLinear)}


def get_topology(model: nn.Module) -> dict[str, Tensor]:
    return {name: layer.active().clone() for name, layer in dynamic_layers(model).items()}


def are_equal(a: Any, b: Any) -> bool:
    """Whether two nested states agree to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(are_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(are_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
