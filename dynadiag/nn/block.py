"""The block rival: square blocks are kept or dropped as a whole, one index a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from dynadiag.nn import bsr_triton, cusparse, cusparse_blocks
from dynadiag.nn.kept import kept
from dynadiag.nn.rows import Rows, embedding_bag
from dynadiag.nn.selection import largest
from dynadiag.nn.tuned import TunedSparseLinear
from dynadiag.nn.tuning import Ways, of_formulation, plus_bias

_CHUNK = 1 << 22  # numbers in a temporary of gathered blocks


class BlockLinear(TunedSparseLinear):
    """Linear layer that keeps square blocks, drawn uniformly or by their summed magnitude.

    `values` is (blocks, block, block), in the order of torch's BSR layout; `row_starts`
    (out_features / block + 1,) and `columns` (blocks,) are int32 and count blocks. Products take
    the formulation measured as fastest, or the one named. Everywhere: `torch_bsr` (MKL, cuSPARSE),
    `bmm`, `embedding_bag`; on CUDA also `triton` (torch's block kernel), `cusparse_bsr` and
    `cusparse_ell` (rows padded to the longest).

    Args:
        in_features: a multiple of `block`.
        out_features: a multiple of `block`.
        bias: whether to add a bias.
        sparsity: share of blocks dropped; the nearest number, within 1 percentage point.
        block: side of a block.
        formulation: the one way to compute products; None for the fastest.
        device: where parameters and buffers live.
        dtype: of the parameters.
    """

    format: ClassVar[str] = "block"
    pattern: ClassVar[tuple[str, ...]] = ("row_starts", "columns")
    formulations: ClassVar[tuple[str, ...]] = (
        *("torch_bsr", "bmm", "embedding_bag", "triton"),
        *cusparse_blocks.FORMULATIONS,
    )
    row_starts: Tensor
    columns: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float,
        block: int = 32,
        formulation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._check_formulation(formulation)
        super().__init__(
            in_features, out_features, bias, sparsity=sparsity, device=device, dtype=dtype
        )
        self._refuse(self.why_not(in_features, out_features, sparsity, dtype, block=block))
        self.block = block
        self._formulation = formulation
        self._grid_shape = (out_features // block, in_features // block)
        count = _nearest_count(*self._grid_shape, sparsity)
        self.values = nn.Parameter(torch.empty(count, block, block, device=device, dtype=dtype))
        starts = torch.zeros(self._grid_shape[0] + 1, device=device, dtype=torch.int32)
        self.register_buffer("row_starts", starts)
        self.register_buffer("columns", torch.zeros(count, device=device, dtype=torch.int32))
        self._draw()

    @classmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        block: int = 32,
        formulation: str | None = None,
        device: str = "cpu",
    ) -> str | None:
        """Return why blocks do not fit, miss the sparsity, or cannot be multiplied, or None."""
        if block < 1 or in_features % block or out_features % block:
            return (
                f"block is {block}, but must be at least 1 and divide both "
                f"in_features = {in_features} and out_features = {out_features}"
            )
        rows, columns = out_features // block, in_features // block
        count = _nearest_count(rows, columns, sparsity)
        reached = 1 - count / (rows * columns)
        if abs(reached - sparsity) > 0.01 + 1e-9:
            return (
                f"sparsity {sparsity} is more than 1 percentage point from {reached:.4g}, the "
                f"nearest that {rows} x {columns} blocks of {block} reach; ask for that or use "
                "smaller blocks"
            )
        if formulation == "triton":
            return bsr_triton.why_not(device, dtype, block)
        if formulation in cusparse_blocks.FORMULATIONS:
            return cusparse.why_not(device, dtype)
        return None

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values`."""
        rows, columns = self._grid_shape
        grid = self.values.new_zeros(rows, columns, self.block, self.block)
        grid = grid.index_put((self._grid.row_of_entry, self._grid.columns), self.values)
        return grid.transpose(1, 2).reshape(self.out_features, self.in_features)

    def extra_repr(self) -> str:
        """Return the constructor arguments, with the sparsity that was reached."""
        return f"{super().extra_repr()}, block={self.block}"

    def _pattern_changed(self) -> None:
        self._grid = Rows(self.row_starts, self.columns, self._grid_shape)

    def _blocks_of(self, dense: Tensor) -> Tensor:
        rows, columns = self._grid_shape
        return dense.view(rows, self.block, columns, self.block).transpose(1, 2)

    def _gather(self, dense: Tensor) -> Tensor:
        return self._blocks_of(dense)[self._grid.row_of_entry, self._grid.columns]

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        kept = largest(self._blocks_of(scores).sum((2, 3)), len(self.columns))
        starts = torch.zeros_like(self.row_starts)
        starts[1:] = kept.sum(1).cumsum(0)
        return starts, kept.nonzero()[:, 1]

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        starts, columns = buffers
        return Rows(starts, columns, self._grid_shape).problem()

    def _product(self, values: Tensor, xt: Tensor, bias: Tensor | None) -> Tensor:
        pad = partial(cusparse_blocks.padded, self._grid, values)
        padded = partial(kept, "ell", self.values, values, self._grid, pad)
        ways = self._ways(self._grid, values, xt, bias, padded)
        return self._tuner.run("forward", values, xt.shape[1], ways)

    def _transposed_product(self, values: Tensor, gt: Tensor) -> Tensor:
        grid, order = self._grid.transposed
        blocks = values[order].transpose(1, 2).contiguous()
        pad = partial(cusparse_blocks.padded, grid, blocks)
        ways = self._ways(grid, blocks, gt, None, pad)
        return self._tuner.run("grad_x", values, gt.shape[1], ways)

    def _ways(
        self,
        grid: Rows,
        blocks: Tensor,
        xt: Tensor,
        bias: Tensor | None,
        pad: Callable[[], Tensor],
    ) -> Ways:
        ways = _everywhere(grid, blocks, xt)
        if blocks.is_cuda or self._formulation in cusparse_blocks.FORMULATIONS:
            ways |= cusparse_blocks.ways(grid, blocks, xt, pad)
        ways = plus_bias(ways, bias)
        if blocks.is_cuda or self._formulation == "triton":
            ways |= bsr_triton.ways(grid, blocks, xt, bias)
        return of_formulation(ways, self._formulation)

    def _sampled_product(self, values: Tensor, gt: Tensor, x: Tensor) -> Tensor:
        ways: Ways = {
            "bmm": partial(_outer_bmm, self._grid, self.block, gt, x),
            "gemm_gather": lambda: self._gather(gt @ x),
        }
        return self._tuner.run("grad_values", values, len(x), ways)


def _nearest_count(rows: int, columns: int, sparsity: float) -> int:
    return max(1, round((1 - sparsity) * rows * columns))


def _everywhere(grid: Rows, blocks: Tensor, xt: Tensor) -> Ways:
    return {
        "torch_bsr": partial(_torch_bsr, grid, blocks, xt),
        "bmm": partial(_sum_of_products, _bmm, grid, blocks, xt),
        "embedding_bag": partial(_sum_of_products, _bags, grid, blocks, xt),
    }


def _torch_bsr(grid: Rows, blocks: Tensor, xt: Tensor) -> Tensor:
    """Return W xᵀ by torch's BSR product; in float32 for 16-bit dtypes, which MKL lacks."""
    side = blocks.shape[1]
    dtype = torch.promote_types(blocks.dtype, torch.float32)
    matrix = torch.sparse_bsr_tensor(
        grid.starts,
        grid.columns,
        blocks.to(dtype),
        size=(grid.shape[0] * side, grid.shape[1] * side),
        check_invariants=False,
    )
    return (matrix @ xt.to(dtype)).to(blocks.dtype)


def _sum_of_products(
    multiply: Callable[[Tensor, Tensor, Tensor], Tensor], grid: Rows, blocks: Tensor, xt: Tensor
) -> Tensor:
    """Return W xᵀ, each block multiplied on its own and added, in float32 at least, to its row."""
    side, batch = blocks.shape[1], xt.shape[1]
    dtype = torch.promote_types(blocks.dtype, torch.float32)
    yt = xt.new_zeros(grid.shape[0] * side, batch, dtype=dtype)
    strips = xt.reshape(-1, side, batch)
    for part in _parts(len(blocks), side * batch):
        products = multiply(blocks[part], strips, grid.columns[part])
        yt.view(-1, side, batch).index_add_(0, grid.row_of_entry[part], products.to(dtype))
    return yt.to(blocks.dtype)


def _bmm(blocks: Tensor, strips: Tensor, columns: Tensor) -> Tensor:
    return torch.bmm(blocks, strips[columns])


def _bags(blocks: Tensor, strips: Tensor, columns: Tensor) -> Tensor:
    """Multiply as `_bmm` does, by weighted sums: faster than MKL at blocks of 16 and 32."""
    _, side, batch = strips.shape
    inputs = torch.arange(side, dtype=torch.int32, device=columns.device)
    inputs = (columns[:, None, None] * side + inputs).expand(-1, side, -1)
    rows = Rows.even(inputs.reshape(-1, side), len(strips) * side)
    return embedding_bag(rows, blocks.flatten(), strips.view(-1, batch)).view(-1, side, batch)


def _outer_bmm(grid: Rows, side: int, gt: Tensor, x: Tensor) -> Tensor:
    """Return the kept blocks of gᵀ x, computing only those."""
    batch = len(x)
    left, right = gt.reshape(-1, side, batch), x.t().reshape(-1, side, batch)
    parts = _parts(len(grid.columns), 2 * side * batch)
    return torch.cat(
        [
            torch.bmm(left[grid.row_of_entry[part]], right[grid.columns[part]].transpose(1, 2))
            for part in parts
        ]
    )


def _parts(count: int, size: int) -> Iterator[slice]:
    """Yield slices of so many items of a size that a temporary stays within `_CHUNK` numbers."""
    step = max(1, _CHUNK // size)
    for start in range(0, count, step):
        yield slice(start, start + step)
