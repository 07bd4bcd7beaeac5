"""The registry of backends: what can compute the three diagonal operators, and where.

A backend computes products with W, M x N, held as values (K, D) and offsets (K,):

- forward:     y = f(x Wᵀ + b)    x (..., N) -> y (..., M)
- grad_x:      dx = dy W          dy (..., M) -> dx (..., N)
- grad_values: dV = the cells of dyᵀ x on the diagonals, (K, D), summed over all leading dimensions

`auto` is no entry: it is the choice among the entries (see `choice.py`).
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

AUTO = "auto"
DIRECTIONS = ("forward", "grad_x", "grad_values")
OVERRIDE = "DYNADIAG_BACKEND"


class Backend(abc.ABC):
    """One way to compute the three operators.

    Attributes:
        name: what users pass as `backend=`.
        devices: device types it runs on.
        dtypes: dtypes it takes.
        families: families of offsets it is made for.
        differentiable: whether its results carry their own gradients, of any order.
        selected: the product with the diagonals that alpha ranks first, with all its gradients, as
            one operator, or None: see `dynadiag.selected_operators`.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[tuple[torch.dtype, ...]]
    families: ClassVar[tuple[str, ...]] = ("free",)
    differentiable: ClassVar[bool] = False

    @property
    def selected(self) -> Callable[..., Tensor] | None:
        """None: there is no such operator."""
        return None

    @abc.abstractmethod
    def unavailable(self) -> str | None:
        """Return why this machine cannot run it at all, or None."""

    @abc.abstractmethod
    def forward(
        self,
        x: Tensor,
        values: Tensor,
        offsets: Tensor,
        bias: Tensor | None,
        out_features: int,
        activation: str | None = None,
    ) -> Tensor:
        """Return x Wᵀ + b, (..., out_features), or a function of it.

        Args:
            x: (..., N), any leading dimensions and strides.
            values: (K, D).
            offsets: (K,) int32.
            bias: (M,) or None.
            out_features: M.
            activation: None, or a name of `activation.ACTIVATIONS` to apply to the result.

        Raises:
            ValueError: the activation is unknown; the message lists the known ones.
        """

    @abc.abstractmethod
    def grad_x(self, grad: Tensor, values: Tensor, offsets: Tensor, in_features: int) -> Tensor:
        """Return dy W, (..., in_features)."""

    @abc.abstractmethod
    def grad_values(self, grad: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
        """Return the (K, D) gradient of the values."""

    def why_not(self, device: str, dtype: torch.dtype) -> str | None:
        """Return why it cannot take tensors of this device type and dtype, or None."""
        if device not in self.devices:
            return f"backend '{self.name}' runs on {' and '.join(self.devices)}, not on {device}"
        if dtype not in self.dtypes:
            known = ", ".join(str(known).removeprefix("torch.") for known in self.dtypes)
            return f"backend '{self.name}' takes {known}, not {str(dtype).removeprefix('torch.')}"
        return self.unavailable()


_backends: dict[str, Backend] = {}


def register(backend: Backend) -> Backend:
    """Add a backend under its name."""
    _backends[backend.name] = backend
    return backend


def backends() -> dict[str, str | None]:
    """Return every backend by name, with the reason it is unavailable here, or None.

    `auto` stands first; asking the `cpu` backend compiles its kernels if they are not yet.
    """
    return {AUTO: None} | {name: entry.unavailable() for name, entry in _backends.items()}


def check_name(name: str) -> None:
    """Raise ValueError unless the name is that of a backend, or `auto`."""
    if name != AUTO and name not in _backends:
        known = ", ".join([AUTO, *_backends])
        raise ValueError(f"unknown backend '{name}'; known are {known}")


def get(name: str) -> Backend:
    """Return the backend of this name.

    Raises:
        ValueError: there is none; the message lists the known ones.
    """
    check_name(name)
    return _backends[name]


def override() -> str:
    """Return what DYNADIAG_BACKEND puts in the place of `auto`: `auto` itself if it is not set."""
    return os.environ.get(OVERRIDE, AUTO)
