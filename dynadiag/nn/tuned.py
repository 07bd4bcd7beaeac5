"""Sparse layers whose forward, grad-x and grad-values are each the fastest of several ways."""

from __future__ import annotations

import abc
import functools
import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dynadiag.nn.base import SparseLinear
from dynadiag.nn.tuning import Tuner


class TunedSparseLinear(SparseLinear):
    """A sparse layer with its own backward, which picks formulations by measuring them.

    y is a transposed view: these formats compute yᵀ, and writing it out row by row would cost
    them another 20-30 %.

    Attributes:
        formulations: names of the formulations of products, those that need CUDA last.
    """

    formulations: ClassVar[tuple[str, ...]]
    _formulation: str | None = None

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
        super().__init__(
            in_features, out_features, bias, sparsity=sparsity, device=device, dtype=dtype
        )
        _silence_warnings()
        self._tuner = Tuner(self.format, out_features, in_features)

    @abc.abstractmethod
    def _product(self, values: Tensor, xt: Tensor, bias: Tensor | None) -> Tensor:
        """Return W xᵀ + b (out_features, batch), no view, for xᵀ (in_features, batch)."""

    @abc.abstractmethod
    def _transposed_product(self, values: Tensor, gt: Tensor) -> Tensor:
        """Return Wᵀ gᵀ (in_features, batch) for gᵀ (out_features, batch)."""

    @abc.abstractmethod
    def _sampled_product(self, values: Tensor, gt: Tensor, x: Tensor) -> Tensor:
        """Return the entries of gᵀ x that the pattern keeps, shaped like `values`."""

    @property
    def config(self) -> str:
        """The formulations measured as fastest in the calls made last."""
        return str(self._tuner)

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        if not torch.is_grad_enabled():  # saves 15 us, a quarter of a small layer at batch 1
            return self._transposed_output(x, values, bias).t()
        yt: Tensor = _Linear.apply(x, values, bias, self)  # type: ignore[no-untyped-call]
        return yt.t()

    def _transposed_output(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        if len(x) == 0:
            return x.new_zeros(self.out_features, 0)
        return self._product(values, x.t(), bias)

    @classmethod
    def _check_formulation(cls, formulation: str | None) -> None:
        if formulation not in (None, *cls.formulations):
            raise ValueError(
                f"unknown formulation '{formulation}'; known are {', '.join(cls.formulations)}"
            )


class _Linear(torch.autograd.Function):
    """yᵀ = W xᵀ + b; transposed, because a view made in here could not be changed in place."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, layer: TunedSparseLinear
    ) -> Tensor:
        """Return yᵀ (out_features, batch)."""
        ctx.save_for_backward(x, values)
        ctx.layer = layer
        return layer._transposed_output(x, values, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gt: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, values and bias that are asked for, given that of yᵀ."""
        x, values = ctx.saved_tensors
        layer: TunedSparseLinear = ctx.layer
        needs_x, needs_values, needs_bias, _ = ctx.needs_input_grad
        grad_bias = gt.sum(1) if needs_bias else None
        if len(x) == 0:
            return torch.zeros_like(x), torch.zeros_like(values), grad_bias, None
        grad_x = layer._transposed_product(values, gt).t() if needs_x else None
        grad_values = layer._sampled_product(values, gt, x) if needs_values else None
        return grad_x, grad_values, grad_bias, None


@functools.cache
def _silence_warnings() -> None:
    """Make torch say what it says once a process of all sparse tensors where nobody hears it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = torch.eye(1).to_sparse_csr()  # "beta state"
        # Torch 2.11: "invariant checks are implicitly disabled".
        torch.sparse_csr_tensor(one.crow_indices(), one.col_indices(), one.values(), one.shape)
