"""The constant fan-in rival: every output keeps equally many inputs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dynadiag.nn.row_sparse import RowSparseLinear
from dynadiag.nn.rows import Rows
from dynadiag.nn.selection import largest_of_each


class CondensedLinear(RowSparseLinear):
    """Linear layer with constant fan-in, the condensed representation of SRigL.

    Keeps k = round((1 - sparsity) · in_features) inputs of each output, at least one:
    `values` and `indices` (int32, rising) are (out_features, k). See arXiv 2305.02299, section 3.
    """

    format: ClassVar[str] = "condensed"
    pattern: ClassVar[tuple[str, ...]] = ("indices",)
    indices: Tensor

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
        shape = (out_features, max(1, round((1 - sparsity) * in_features)))
        self.values = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.register_buffer("indices", torch.zeros(shape, device=device, dtype=torch.int32))
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
        """Return None: every shape is possible, at the fan-in nearest to the sparsity."""
        return None

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        return (largest_of_each(scores, self.values.shape[1]),)

    def _rows_of(self, *buffers: Tensor) -> Rows:
        (indices,) = buffers
        return Rows.even(indices, self.in_features)
