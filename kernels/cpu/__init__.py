"""The CPU backend: C++ for the vector units at hand, compiled on first use (see `build.py`)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..activation import activate
from ..registry import Backend, register
from .build import load


class Cpu(Backend):
    """Sums in float32, threads by torch's own pool; kernels in the headers beside this file."""

    name = "cpu"
    devices = ("cpu",)
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    differentiable = True

    def unavailable(self) -> str | None:
        """Return why the kernels could not be compiled or loaded, or None."""
        return load()

    @functools.cached_property
    def _multiply(self) -> Callable[..., Tensor]:
        product: Callable[..., Tensor] = torch.ops.dynadiag_cpu.multiply.default
        return product

    def forward(
        self,
        x: Tensor,
        values: Tensor,
        offsets: Tensor,
        bias: Tensor | None,
        out_features: int,
        activation: str | None = None,
    ) -> Tensor:
        """Return f(x Wᵀ + b), (..., out_features), f being the activation if any."""
        y = self._multiply(x, values, offsets, bias, out_features, False)
        return y if activation is None else activate(y, activation)

    def grad_x(self, grad: Tensor, values: Tensor, offsets: Tensor, in_features: int) -> Tensor:
        """Return dy W, (..., in_features): the product with the transpose."""
        square = grad.shape[-1] == in_features
        return self._multiply(grad, values, offsets, None, in_features, square)

    def grad_values(self, grad: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
        """Return the (K, D) gradient of the values."""
        sums: Tensor = torch.ops.dynadiag_cpu.grad_values.default(grad, x, offsets)
        return sums

    @functools.cached_property
    def selected(self) -> Callable[..., Tensor]:
        """The product with the diagonals that alpha ranks first; see `selected.h`."""
        product: Callable[..., Tensor] = torch.ops.dynadiag_cpu.selected.default
        return product


register(Cpu())
