"""The unstructured rival: any entry may be kept, and each pays for an index."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dynadiag.nn import cusparse
from dynadiag.nn.row_sparse import RowSparseLinear
from dynadiag.nn.rows import Rows
from dynadiag.nn.selection import largest


class CSRLinear(RowSparseLinear):
    """Linear layer with an unstructured weight in compressed sparse rows.

    Keeps round((1 - sparsity) · out_features · in_features) entries, at least one, drawn
    uniformly. `values` is (nnz,), `row_starts` (out_features + 1,) and `columns` (nnz,) are int32,
    which MKL and cuSPARSE read with half the traffic of int64 (batch 1: 1.6x faster).
    Products take the formulation measured as fastest, or the one named: `torch_csr` (MKL, or
    cuSPARSE by one fixed algorithm), `embedding_bag` (FBGEMM, or a kernel of torch), or `cusparse`
    (CUDA only: the fastest of its algorithms, orders of the dense matrices, and with or without
    its analysis of the pattern).
    """

    format: ClassVar[str] = "csr"
    pattern: ClassVar[tuple[str, ...]] = ("row_starts", "columns")
    row_starts: Tensor
    columns: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float,
        formulation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._check_formulation(formulation)
        super().__init__(
            in_features, out_features, bias, sparsity=sparsity, device=device, dtype=dtype
        )
        self._formulation = formulation
        nnz = max(1, round((1 - sparsity) * out_features * in_features))
        self.values = nn.Parameter(torch.empty(nnz, device=device, dtype=dtype))
        starts = torch.zeros(out_features + 1, device=device, dtype=torch.int32)
        self.register_buffer("row_starts", starts)
        self.register_buffer("columns", torch.zeros(nnz, device=device, dtype=torch.int32))
        self._draw()

    @classmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        formulation: str | None = None,
        device: str = "cpu",
    ) -> str | None:
        """Return why cuSPARSE is missing or rejects the dtype, or None; every shape is possible."""
        if formulation == "cusparse":
            return cusparse.why_not(device, dtype)
        if device == "cuda" and formulation != "embedding_bag":
            return cusparse.rejects_float16(dtype)
        return None

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        kept = largest(scores, self.nnz)
        starts = torch.zeros_like(self.row_starts)
        starts[1:] = kept.sum(1).cumsum(0)
        return starts, kept.nonzero()[:, 1]

    def _rows_of(self, *buffers: Tensor) -> Rows:
        starts, columns = buffers
        return Rows(starts, columns, (self.out_features, self.in_features))
