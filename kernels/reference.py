"""The reference: plain torch, one diagonal at a time. The oracle of every test, on every device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..geometry import cells, check_offsets
from .activation import activate
from .registry import Backend, register


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _diagonals(
    offsets: Tensor, out_features: int, in_features: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return (rows, columns), each (D,), of one diagonal after the other."""
    if offsets.device.type == "cpu":  # elsewhere reading them would wait for the device
        check_offsets(offsets, out_features, in_features)
    for offset in offsets.split(1):
        rows, columns = cells(offset, out_features, in_features)
        yield rows[0], columns[0]


def _multiply(
    x: Tensor, values: Tensor, places: Iterable[tuple[Tensor, Tensor]], size: int
) -> Tensor:
    """Add values[k] * x[..., read] into [..., write] of a zero (..., size) for every k."""
    wide = _accumulator(x.dtype)
    rows, coefficients = x.reshape(-1, x.shape[-1]).to(wide), values.to(wide)
    y = rows.new_zeros(len(rows), size)
    for diagonal, (write, read) in zip(coefficients, places, strict=True):
        y.index_add_(1, write, rows[:, read] * diagonal)
    return y.reshape(*x.shape[:-1], size)


class Reference(Backend):
    """Torch operations on (batch, D) slices; sums in float32 or wider."""

    name = "reference"
    devices = ("cpu", "cuda", "mps", "xpu")
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

    def unavailable(self) -> str | None:
        """Return None: it runs everywhere."""
        return None

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
        places = _diagonals(offsets, out_features, x.shape[-1])
        y = _multiply(x, values, places, out_features)
        return activate(y if bias is None else y + bias, activation).to(x.dtype)

    def grad_x(self, grad: Tensor, values: Tensor, offsets: Tensor, in_features: int) -> Tensor:
        """Return dy W, (..., in_features)."""
        places = _diagonals(offsets, grad.shape[-1], in_features)
        mirrored = ((column, row) for row, column in places)
        return _multiply(grad, values, mirrored, in_features).to(grad.dtype)

    def grad_values(self, grad: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
        """Return the (K, D) gradient of the values."""
        out_features, in_features = grad.shape[-1], x.shape[-1]
        wide = _accumulator(x.dtype)
        flat_grad = grad.reshape(-1, out_features).to(wide)
        flat_x = x.reshape(-1, in_features).to(wide)
        places = _diagonals(offsets, out_features, in_features)
        sums = [(flat_grad[:, row] * flat_x[:, column]).sum(0) for row, column in places]
        return torch.stack(sums).to(x.dtype)


register(Reference())
