"""One product, as far as the choice of a backend depends on it, and operands for timing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .registry import Backend


@dataclass(frozen=True)
class Problem:
    """One product.

    Attributes:
        direction: one of registry.DIRECTIONS.
        dtype: of all operands.
        out_features: M.
        in_features: N.
        num_diagonals: K.
        batch: rows of x.
        threads: of the CPU.
    """

    direction: str
    dtype: torch.dtype
    out_features: int
    in_features: int
    num_diagonals: int
    batch: int
    threads: int

    @property
    def density(self) -> float:
        """K / P."""
        return self.num_diagonals / max(self.out_features, self.in_features)


def call(backend: Backend, problem: Problem, device: str) -> Callable[[], Tensor]:
    """Return the product on random operands, drawn without touching the global generator."""
    # On the device itself: a CPU takes half a second for the operands of a large layer.
    generator = torch.Generator(device).manual_seed(0)
    m, n, k = problem.out_features, problem.in_features, problem.num_diagonals

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(problem.dtype)

    x, grad, values = draw(problem.batch, n), draw(problem.batch, m), draw(k, min(m, n))
    offsets = torch.randperm(max(m, n), generator=generator, device=device)[:k].sort().values.int()
    if problem.direction == "forward":
        return lambda: backend.forward(x, values, offsets, None, m)
    if problem.direction == "grad_x":
        return lambda: backend.grad_x(grad, values, offsets, n)
    return lambda: backend.grad_values(grad, x, offsets)
