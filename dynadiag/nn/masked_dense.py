"""The training-time rival: a dense weight times a mask, as most pruning libraries compute."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dynadiag.masked_operators import masked
from dynadiag.nn.csr import CSRLinear
from dynadiag.nn.dynamic import DynamicLinear
from dynadiag.nn.selection import largest
from dynadiag.nn.sharded import full


class MaskedDenseLinear(DynamicLinear):
    """Linear layer with a dense weight and an unstructured 0/1 mask, which training may move.

    `values` is (out_features, in_features) with entries that count only where the bool buffer
    `mask` is true; both are stored in full, so that sparsity saves neither time nor memory.
    Entries outside the mask are kept at zero.
    """

    format: ClassVar[str] = "masked_dense"
    pattern: ClassVar[tuple[str, ...]] = ("mask",)
    mask: Tensor

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
        shape = (out_features, in_features)
        self.num_active_target = max(1, round((1 - sparsity) * out_features * in_features))
        self.values = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.register_buffer("mask", torch.zeros(shape, device=device, dtype=torch.bool))
        self._draw()

    @classmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        device: str = "cpu",
    ) -> str | None:
        """Return None: every shape, sparsity and dtype is possible."""
        return None

    @property
    def units(self) -> int:
        """Number of entries of the weight."""
        return self.out_features * self.in_features

    @property
    def kept(self) -> int:
        """Number of weights the mask lets through."""
        return self.num_active_target if self.mask.is_meta else int(self.mask.sum())

    @property
    def nnz(self) -> int:
        """Number of weights the mask lets through."""
        return self.kept

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values`."""
        return masked(self.values, self.mask, self.dense_gradient)

    @property
    def config(self) -> str:
        """The one formulation there is."""
        return "GEMM with values * mask"

    def reset_parameters(self) -> None:
        """Draw values inside the mask, and bias, as every sparse layer."""
        super().reset_parameters()
        with torch.no_grad():
            self.values.mul_(self.mask)

    def active(self) -> Tensor:
        """Return the mask; a copy."""
        return self.mask.clone()

    def strength(self) -> Tensor:
        """Return the magnitudes of the weights, in float32."""
        return self._magnitudes(full(self.values).float())

    def over_values(self, units: Tensor) -> Tensor:
        """Return the mask as it is: units are the entries of `values`."""
        return units

    @torch.no_grad()
    def compact(self) -> CSRLinear:
        """Return the same weights in compressed sparse rows."""
        layer = CSRLinear(
            self.in_features,
            self.out_features,
            self.bias is not None,
            sparsity=self.sparsity,
            device=self.mask.device,
            dtype=self.values.dtype,
        )
        layer._set_pattern(*layer._largest(self.mask.float()))
        layer.values.copy_(layer._gather(full(self.values)))
        self._hand_over(layer)
        return layer

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        weight = masked(values, self.mask, self.dense_gradient)
        return nn.functional.linear(x, weight, bias)

    def _magnitudes(self, values: Tensor) -> Tensor:
        return values.abs()

    def _activate(self, active: Tensor, before: Tensor) -> None:
        self.mask.copy_(active)
        self._zero(self.values, ~active)

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        return (largest(scores, self.num_active_target),)

    def _gather(self, dense: Tensor) -> Tensor:
        return dense * self.mask

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        kept = int(buffers[0].sum())
        if kept == self.num_active_target or (self.method is not None and kept):
            return None  # a method may have been between two counts
        return f"it keeps {kept} weights instead of {self.num_active_target}"
