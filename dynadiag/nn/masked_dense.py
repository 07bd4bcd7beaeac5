"""The training-time rival: a dense weight times a mask, as most pruning libraries compute."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dynadiag.nn.base import SparseLinear
from dynadiag.nn.selection import largest


class MaskedDenseLinear(SparseLinear):
    """Linear layer with a dense weight and an unstructured 0/1 mask.

    `values` is (out_features, in_features) with entries that count only where the bool buffer
    `mask` is true; both are stored in full, so that sparsity saves neither time nor memory.
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
        self._kept = max(1, round((1 - sparsity) * out_features * in_features))
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
    def nnz(self) -> int:
        """Number of weights the mask lets through."""
        return self._kept

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values`."""
        return self.values * self.mask

    @property
    def config(self) -> str:
        """The one formulation there is."""
        return "GEMM with values * mask"

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, values * self.mask, bias)

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        return (largest(scores, self._kept),)

    def _gather(self, dense: Tensor) -> Tensor:
        return dense * self.mask

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        kept = int(buffers[0].sum())
        return None if kept == self._kept else f"it keeps {kept} weights instead of {self._kept}"
