"""Block-sparse products by torch's Triton kernel, its launch parameters searched.

torch ships parameters for the A100 only and runs every other card with one stage. Its own search
(`tune_bsr_dense_addmm`) times each candidate for 0.6 s, minutes a size; the few candidates here are
those that mattered on Hopper (torchao pull request 1734: 22 % from 1 to 4 stages).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _triton

from dynadiag.nn.rows import Rows
from dynadiag.nn.third_party import explained, name_of, refuse
from dynadiag.nn.tuning import Ways

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_TILES = (16, 32, 64, 128)  # batch rows that one program computes
_LAUNCHES = ((2, 4), (4, 4), (4, 8))  # stages of the pipeline, warps
_LEAST_BLOCK = 16
_GROUP = 4  # block rows that share a tile of x in the L2 cache, torch's default


def why_not(device: str, dtype: torch.dtype | None, block: int) -> str | None:
    """Return why the kernel cannot multiply blocks of a size in a dtype on a device, or None."""
    if device != "cuda":
        return f"torch's Triton block product runs on cuda, not on {device}"
    if dtype is not None and dtype not in DTYPES:
        known = ", ".join(map(name_of, DTYPES))
        return f"torch's Triton block product takes {known}, not {name_of(dtype)}"
    if block < _LEAST_BLOCK or block & (block - 1):
        return (
            f"block is {block}, but torch's Triton block product needs a power of two of at least "
            f"{_LEAST_BLOCK}"
        )
    if not _triton.has_triton():
        return "torch's Triton block product needs Triton; pip install triton"
    return None


def ways(grid: Rows, blocks: Tensor, xt: Tensor, bias: Tensor | None) -> Ways:
    """Return the ways to compute W xᵀ + b, one for each set of launch parameters.

    Args:
        grid: where the blocks of W sit, counted in blocks.
        blocks: (blocks, side, side).
        xt: (in, batch), of any strides.
        bias: (out,) or None; added within the kernel.

    Returns:
        By name; a single way that raises the reason, where the kernel cannot run.
    """
    reason = why_not(blocks.device.type, blocks.dtype, blocks.shape[1])
    if reason is not None:
        return {"triton": partial(refuse, reason)}
    return {
        f"triton(tile={tile} stages={stages} warps={warps})": partial(
            _multiply, grid, blocks, xt, bias, tile, stages, warps
        )
        for tile in tiles(xt.shape[1])
        for stages, warps in _LAUNCHES
    }


def tiles(batch: int) -> tuple[int, ...]:
    """Return the two largest tiles that a batch fills, or the smallest there is."""
    return tuple(tile for tile in _TILES if tile <= max(batch, _TILES[0]))[-2:]


def _multiply(
    grid: Rows, blocks: Tensor, xt: Tensor, bias: Tensor | None, tile: int, stages: int, warps: int
) -> Tensor:
    from torch.sparse._triton_ops import bsr_dense_addmm

    batch, side = xt.shape[1], blocks.shape[1]
    shape = (grid.shape[0] * side, grid.shape[1] * side)
    matrix = torch.sparse_bsr_tensor(
        grid.starts, grid.columns, blocks, size=shape, check_invariants=False
    )
    missing = -batch % tile  # a tile must be full
    dense = F.pad(xt, (0, missing)) if missing else xt
    width = dense.shape[1]
    out = dense.new_empty(shape[0], width)
    meta = {
        "SPLIT_N": width // tile,
        "GROUP_SIZE_ROW": _GROUP,
        "num_stages": stages,
        "num_warps": warps,
    }
    added = out if bias is None else bias.unsqueeze(1).expand_as(out)
    with explained("torch's Triton block product"):
        bsr_dense_addmm(added, matrix, dense, beta=int(bias is not None), out=out, meta=meta)
    return out[:, :batch].contiguous() if missing else out
