"""What every sparse linear layer shares: checks, sizes, initialisation, nn.Linear in and out."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..geometry import check_features, check_sparsity


def _autocasts(x: Tensor) -> bool:
    """Return whether autocast is on for x; float64 stays what it is, as in torch's products."""
    return not x.is_meta and x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type)


class SparseLinear(nn.Module, abc.ABC):
    """y = x Wᵀ + b with a weight that stores fewer than out_features · in_features numbers.

    A format adds three things: `values`, the trainable numbers; the buffers named in `pattern`,
    of fixed shape, which say where in W they sit; and `_multiply`, differentiable in x, values
    and bias. Patterns are drawn with torch's global generator, as the values of `nn.Linear` are.

    Attributes:
        format: name of the storage format.
        pattern: names of the buffers that, with `values`, make up the stored weight.
        in_features: size of the last dimension of x.
        out_features: size of the last dimension of y.
        requested_sparsity: the share of zeros asked for; `sparsity` is what the format reached.
        values: the stored weights; shape and order belong to the format.
        bias: (out_features,) or None.
    """

    format: ClassVar[str]
    pattern: ClassVar[tuple[str, ...]]
    values: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_features(in_features, out_features)
        check_sparsity(sparsity)
        self.in_features = in_features
        self.out_features = out_features
        self.requested_sparsity = float(sparsity)
        free = torch.empty(out_features, device=device, dtype=dtype) if bias else None
        self.register_parameter("bias", None if free is None else nn.Parameter(free))

    @classmethod
    @abc.abstractmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        device: str = "cpu",
    ) -> str | None:
        """Return why the format cannot hold or multiply such a layer, or None if it can.

        Args:
            in_features: size of the last dimension of x.
            out_features: size of the last dimension of y.
            sparsity: the share of zeros asked for.
            dtype: of the parameters; None leaves it open.
            device: type of the device it is to run on, such as `cpu` or `cuda`.
        """

    @property
    @abc.abstractmethod
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values`."""

    @property
    @abc.abstractmethod
    def config(self) -> str:
        """How products are computed, in words a report can print."""

    @abc.abstractmethod
    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Return x Wᵀ + b for x (batch, in_features), all of one dtype."""

    @abc.abstractmethod
    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Return the pattern buffers that keep the largest scores (out_features, in_features)."""

    @abc.abstractmethod
    def _gather(self, dense: Tensor) -> Tensor:
        """Return the entries of a dense matrix that the pattern keeps, shaped like `values`."""

    @abc.abstractmethod
    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        """Return what makes buffers of the right shapes no valid pattern, or None."""

    @property
    def nnz(self) -> int:
        """Number of weights kept."""
        return self.values.numel()

    @property
    def sparsity(self) -> float:
        """The share of zeros the format reached."""
        return 1 - self.nnz / (self.out_features * self.in_features)

    @property
    def weight_bytes(self) -> int:
        """Bytes of values, indices and metadata a forward reads; the bias is not counted."""
        return self.values.nbytes + sum(self.get_buffer(name).nbytes for name in self.pattern)

    @property
    def index_dtype(self) -> str | None:
        """Name of the dtype of the indices; None if the format stores none."""
        dtype = self.get_buffer(self.pattern[-1]).dtype
        return None if dtype == torch.bool else str(dtype).removeprefix("torch.")

    @classmethod
    def from_linear(cls, linear: nn.Linear, **structure: Any) -> Self:
        """Keep the largest magnitudes of a dense layer that the format allows, and its bias.

        Args:
            linear: the dense layer, left as it is.
            structure: what the constructor takes beyond sizes: `sparsity`, or `block`, `n`, `m`.

        Returns:
            A layer on the device and in the dtype of `linear`.
        """
        weight = linear.weight.detach()
        layer = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
            **structure,
        )
        layer._set_pattern(*layer._largest(weight.abs().float()))
        with torch.no_grad():
            layer.values.copy_(layer._gather(weight))
            if layer.bias is not None:
                layer.bias.copy_(linear.bias)
        return layer

    def to_linear(self) -> nn.Linear:
        """Return an independent dense layer that computes the same."""
        dense = nn.Linear(
            self.in_features,
            self.out_features,
            self.bias is not None,
            device=self.values.device,
            dtype=self.values.dtype,
        )
        with torch.no_grad():
            dense.weight.copy_(self.weight)
            if self.bias is not None:
                dense.bias.copy_(self.bias)
        return dense

    def reset_parameters(self) -> None:
        """Draw values and bias as `nn.Linear` does, values scaled to the fan-in really kept."""
        bound = math.sqrt(self.out_features / self.nnz)
        nn.init.uniform_(self.values, -bound, bound)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b.

        Args:
            x: (..., in_features), of the dtype and on the device of the layer.

        Returns:
            (..., out_features), in the dtype of x, or of autocast where that is on.
        """
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but its last dimension must be "
                f"in_features = {self.in_features}"
            )
        if x.device != self.values.device:
            raise ValueError(
                f"x is on {x.device}, but the layer is on {self.values.device}; move one with .to()"
            )
        if _autocasts(x):
            return self._forward_autocast(x)
        if x.dtype != self.values.dtype:
            raise TypeError(
                f"x is {x.dtype}, but the layer holds {self.values.dtype}; convert one with .to()"
            )
        y = self._multiply(x.reshape(-1, self.in_features), self.values, self.bias)
        return y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return the constructor arguments, with the sparsity that was reached."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, sparsity={self.sparsity:.4g}"
        )

    def _forward_autocast(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else self.bias.to(dtype)
        rows = x.reshape(-1, self.in_features).to(dtype)
        # The operators inside must see the dtypes chosen here, not choose again.
        with torch.autocast(device, enabled=False):
            y = self._multiply(rows, self.values.to(dtype), bias)
        return y.reshape(*x.shape[:-1], self.out_features)

    def _refuse(self, reason: str | None) -> None:
        if reason is not None:
            raise ValueError(reason)

    def _draw(self) -> None:
        """Draw a random pattern, then values and bias; the last line of a constructor."""
        if self.values.is_meta:
            self._pattern_changed()
        else:
            scores = torch.rand(self.out_features, self.in_features, device=self.values.device)
            self._set_pattern(*self._largest(scores))
        self.reset_parameters()

    def _set_pattern(self, *buffers: Tensor) -> None:
        for name, new in zip(self.pattern, buffers, strict=True):
            self.get_buffer(name).copy_(new)
        self._pattern_changed()

    def _pattern_changed(self) -> None:
        """Rebuild whatever is derived from the pattern."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._pattern_changed()
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Load as nn.Module does, but refuse a foreign pattern that kernels would trust."""
        *_, error_msgs = rest
        buffers = [state_dict.get(prefix + name) for name in self.pattern]
        shapes = [self.get_buffer(name).shape for name in self.pattern]
        fitting = [buffer for buffer in buffers if isinstance(buffer, Tensor)]
        if [buffer.shape for buffer in fitting] == shapes:
            wrong = self._wrong_pattern(*fitting)
            if wrong is not None:
                error_msgs.append(f"{prefix}{self.pattern[-1]} is no valid pattern: {wrong}")
                return
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._pattern_changed()
