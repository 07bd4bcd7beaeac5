"""The dense path: values scattered into W once per version of the weight, then one GEMM.

The right path where the matrix units make up for the zeros, such as bf16 on AMX or tensor cores.
It holds W, M·N numbers, for as long as the values live unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from ..geometry import cells, check_offsets
from .activation import activate
from .registry import Backend, register

Shape = tuple[int, int]
Look = Tensor | tuple[object, ...]


@dataclass(frozen=True)
class _Kept:
    """What was derived from some tensors for a shape, and how they looked then."""

    looks: tuple[Look, ...]
    shape: Shape
    derived: Tensor


# Keyed by the first of the tensors, which is not kept alive.
_places: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
_weights: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _look(tensor: Tensor) -> Look:
    """Return what tells later whether the tensor changed: a copy on the CPU, else its version.

    Writing through `.data` does not count up the version, and comparing K·D values costs little
    beside a GEMM; on other devices a comparison would have to wait for the device.
    """
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    version = None if tensor.is_inference() else tensor._version  # inference tensors have none
    return version, tensor.data_ptr(), tensor.dtype


def _unchanged(tensor: Tensor, seen: Look) -> bool:
    if isinstance(seen, Tensor):
        return tensor.dtype == seen.dtype and torch.equal(tensor, seen)
    return seen[0] is not None and _look(tensor) == seen


def _recall(
    memory: WeakTensorKeyDictionary,
    tensors: tuple[Tensor, ...],
    shape: Shape,
    derive: Callable[[], Tensor],
) -> Tensor:
    """Return what `derive` makes of the tensors for this shape, made once for each state."""
    kept = memory.get(tensors[0])
    if kept is None or kept.shape != shape or not all(map(_unchanged, tensors, kept.looks)):
        kept = _Kept(tuple(map(_look, tensors)), shape, derive())
        memory[tensors[0]] = kept
    derived: Tensor = kept.derived
    return derived


def _places_of(offsets: Tensor, shape: Shape) -> Tensor:
    """Return the (K, D) positions of the cells in the flattened W."""

    def derive() -> Tensor:
        if offsets.device.type == "cpu":
            check_offsets(offsets, *shape)
        rows, columns = cells(offsets, *shape)
        return rows * shape[1] + columns

    return _recall(_places, (offsets,), shape, derive)


def _weight(values: Tensor, offsets: Tensor, shape: Shape) -> Tensor:
    def derive() -> Tensor:
        flat = values.new_zeros(shape[0] * shape[1])
        flat[_places_of(offsets, shape)] = values.detach()
        return flat.reshape(shape)

    return _recall(_weights, (values, offsets), shape, derive)


class Dense(Backend):
    """Scatter and GEMM; the gradient of the values gathered from the dense one."""

    name = "dense"
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
        weight = _weight(values, offsets, (out_features, x.shape[-1]))
        return activate(F.linear(x, weight, bias), activation)

    def grad_x(self, grad: Tensor, values: Tensor, offsets: Tensor, in_features: int) -> Tensor:
        """Return dy W, (..., in_features)."""
        return grad @ _weight(values, offsets, (grad.shape[-1], in_features))

    def grad_values(self, grad: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
        """Return the (K, D) gradient of the values."""
        out_features, in_features = grad.shape[-1], x.shape[-1]
        full = grad.reshape(-1, out_features).T @ x.reshape(-1, in_features)
        return full.flatten()[_places_of(offsets, (out_features, in_features))]


register(Dense())
