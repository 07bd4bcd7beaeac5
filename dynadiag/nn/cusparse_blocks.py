"""Block-sparse products by cuSPARSE: BSR, and Blocked-ELL with rows padded to the longest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from dynadiag.nn import cusparse
from dynadiag.nn.cusparse_unbound import create
from dynadiag.nn.rows import Rows
from dynadiag.nn.third_party import refuse
from dynadiag.nn.tuning import Ways

FORMULATIONS = ("cusparse_bsr", "cusparse_ell")
_BSR_ALG1, _BLOCKED_ELL_ALG1 = 14, 13


def ways(grid: Rows, blocks: Tensor, xt: Tensor, pad: Callable[[], Tensor]) -> Ways:
    """Return the ways to compute W xᵀ, one for each format and order of the dense matrices.

    Args:
        grid: where the blocks of W sit, counted in blocks.
        blocks: (blocks, side, side), contiguous.
        xt: (in, batch), of any strides.
        pad: returns the blocks as `padded` makes them, perhaps kept from an earlier call.

    Returns:
        By name; ways that raise the reason, where cuSPARSE cannot be called.
    """
    reason = cusparse.why_not(blocks.device.type, blocks.dtype)
    if reason is not None:
        return {name: partial(refuse, reason) for name in FORMULATIONS}
    height = grid.shape[0] * blocks.shape[1]
    found: Ways = {}
    for order in cusparse.ORDERS:
        bsr = partial(_bsr, grid, blocks)
        found[f"cusparse_bsr({order})"] = partial(
            cusparse.multiply, bsr, height, xt, _BSR_ALG1, order
        )
        found[f"cusparse_ell({order})"] = partial(_multiply_ell, grid, pad, height, xt, order)
    return found


def padded(grid: Rows, blocks: Tensor) -> Tensor:
    """Return the values of Blocked-ELL: (out, width · side), row by row, zeros where no block is.

    width is the number of blocks of the fullest row; see `Rows.ell`.
    """
    columns, slots = grid.ell
    side = blocks.shape[1]
    values = blocks.new_zeros(*columns.shape, side, side)
    values[grid.row_of_entry, slots] = blocks
    return values.transpose(1, 2).reshape(columns.shape[0] * side, -1)


def _multiply_ell(
    grid: Rows, pad: Callable[[], Tensor], height: int, xt: Tensor, order: str
) -> Tensor:
    describe = partial(_blocked_ell, grid, pad())
    return cusparse.multiply(describe, height, xt, _BLOCKED_ELL_ALG1, order)


def _bsr(grid: Rows, blocks: Tensor, api: Any) -> int:
    count, side, _ = blocks.shape
    addresses = (grid.starts.data_ptr(), grid.columns.data_ptr(), blocks.data_ptr())
    types = (cusparse.INT32, cusparse.INT32, 0, cusparse.DATA_TYPES[blocks.dtype])
    order = cusparse.ORDERS["row"]  # the only one that SpMM takes within blocks
    return create("cusparseCreateBsr", *grid.shape, count, side, side, *addresses, *types, order)


def _blocked_ell(grid: Rows, values: Tensor, api: Any) -> int:
    columns, _ = grid.ell
    height, width = values.shape
    side = height // grid.shape[0]
    return create(
        "cusparseCreateBlockedEll",
        *(height, grid.shape[1] * side, side, width),
        *(columns.data_ptr(), values.data_ptr()),
        *(cusparse.INT32, 0, cusparse.DATA_TYPES[values.dtype]),
    )
