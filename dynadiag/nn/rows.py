"""Sparse weights stored row by row, and the ways torch offers to multiply by them."""

from __future__ import annotations

import functools
from typing import Self

import torch
from torch import Tensor, nn


class Rows:
    """Where the kept entries of an (out, in) matrix sit, row by row.

    Attributes:
        starts: (out + 1,) int32, where each row begins among the kept entries.
        columns: (nnz,) int32, the column of each entry, rising within a row.
        shape: (out, in).
    """

    def __init__(self, starts: Tensor, columns: Tensor, shape: tuple[int, int]) -> None:
        self.starts = starts
        self.columns = columns
        self.shape = shape

    @classmethod
    def even(cls, columns: Tensor, in_features: int) -> Self:
        """Return rows of equal length from columns (out, length)."""
        out, length = columns.shape
        starts = torch.arange(out + 1, dtype=torch.int32, device=columns.device) * length
        return cls(starts, columns.flatten(), (out, in_features))

    @functools.cached_property
    def row_of_entry(self) -> Tensor:
        """(nnz,) int32."""
        rows = torch.arange(self.shape[0], dtype=torch.int32, device=self.columns.device)
        return torch.repeat_interleave(rows, self.starts.diff(), output_size=len(self.columns))

    @functools.cached_property
    def positions(self) -> Tensor:
        """(nnz,) int64, the place of each entry in the flattened matrix."""
        return self.row_of_entry.long() * self.shape[1] + self.columns

    @functools.cached_property
    def ell(self) -> tuple[Tensor, Tensor]:
        """Columns (out, width) int32, -1 past the end of a row, and the place of each entry in it.

        width is the length of the longest row; finding it waits for the device, once.
        """
        entries = torch.arange(len(self.columns), device=self.columns.device)
        places = entries - self.starts[self.row_of_entry]
        width = int(self.starts.diff().max())
        columns = self.columns.new_full((self.shape[0], width), -1)
        columns[self.row_of_entry, places] = self.columns
        return columns, places

    @functools.cached_property
    def transposed(self) -> tuple[Rows, Tensor]:
        """The same entries column by column, and the order that sorts values so."""
        out, width = self.shape
        order = torch.argsort(self.columns, stable=True)
        starts = torch.zeros(width + 1, dtype=torch.int32, device=self.columns.device)
        starts[1:] = torch.bincount(self.columns, minlength=width).cumsum(0)
        return Rows(starts, self.row_of_entry[order], (width, out)), order

    def matrix(self, values: Tensor, *, check: bool = False) -> Tensor:
        """Return the torch CSR matrix with these values, checked or trusted."""
        return torch.sparse_csr_tensor(
            self.starts, self.columns, values, size=self.shape, check_invariants=check
        )

    def problem(self) -> str | None:
        """Return what makes the buffers no CSR structure, or None."""
        if len(self.columns) == 0:
            return "it keeps no entry"
        try:
            self.matrix(torch.zeros_like(self.columns, dtype=torch.float32), check=True)
        except RuntimeError as error:
            return str(error)
        return None


def torch_csr(rows: Rows, values: Tensor, xt: Tensor) -> Tensor:
    """Return W xᵀ by torch's CSR product: MKL on the CPU, cuSPARSE on CUDA.

    MKL has no 16-bit kernels, so there those dtypes are computed in float32.
    """
    dtype = values.dtype if values.is_cuda else torch.promote_types(values.dtype, torch.float32)
    matrix, xt = rows.matrix(values.to(dtype)), xt.to(dtype)
    if xt.shape[1] > 1:
        return (matrix @ xt).to(values.dtype)
    y = xt.new_empty(rows.shape[0], 1)
    torch.mv(matrix, xt[:, 0], out=y[:, 0])
    return y.to(values.dtype)


def embedding_bag(rows: Rows, values: Tensor, xt: Tensor) -> Tensor:
    """Return W xᵀ as weighted sums of the rows of xᵀ, one bag per output."""
    return nn.functional.embedding_bag(
        rows.columns,
        xt.contiguous(),
        rows.starts,
        per_sample_weights=values,
        mode="sum",
        include_last_offset=True,
    )


def dense_gemm(rows: Rows, values: Tensor, xt: Tensor) -> Tensor:
    """Return W xᵀ by writing W out densely."""
    return written_out(rows, values) @ xt


def written_out(rows: Rows, values: Tensor) -> Tensor:
    """Return the dense W, (out, in)."""
    out, width = rows.shape
    weight = values.new_zeros(out * width)
    weight[rows.positions] = values
    return weight.view(out, width)


def sampled(rows: Rows, values: Tensor, gt: Tensor, x: Tensor) -> Tensor:
    """Return the kept entries of gᵀ x, computing only those."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    matrix = rows.matrix(values.new_zeros(values.shape, dtype=dtype))
    products: Tensor = torch.sparse.sampled_addmm(matrix, gt.to(dtype), x.to(dtype))
    return products.values().to(values.dtype)


def gemm_gather(rows: Rows, values: Tensor, gt: Tensor, x: Tensor) -> Tensor:
    """Return the kept entries of gᵀ x, computing all: faster below about 85 % sparsity."""
    return (gt @ x).flatten().index_select(0, rows.positions)
