"""Which kernel serves a product, and how it is launched: pure functions of sizes and the device.

The rules, all from bytes and clocks (see `cost.py`):

- a tile of G·R batch rows lies whole in shared memory; where no tile fits, the naive kernels serve;
- the grid is chosen so that the multiprocessors are done at the same time: taller tiles cost less
  in instructions and values, but leave more idle at the end (at batch 12608, 56 rows make 226
  tiles, two for most of 132 multiprocessors and one for the rest: 86 %; 24 rows make 526: 99.6 %);
- where the batch has too few tiles, blocks share the outputs, each loading the tile again;
- up to SPLIT_BATCH rows, outputs alone are too few to keep all multiprocessors busy: slices of the
  diagonals spread the values over them, at the price of a kernel that adds the slices up.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from . import cost
from .cost import Gradient, Launch, Product
from .device import Device
from .variants import PANELS, Variant, full_rows, row_counts

SPLIT_BATCH = 256
# Up to so many rows the bytes of the values decide: all multiprocessors together read fastest.
FEW_ROWS = 16
# Diagonals of a slice at least, for its sums to be worth adding up.
LEAST_SLICE = 8
# Blocks a multiprocessor gets of `grad_values`, at most, for slices of the batch.
DEALT = 8
BLOCKS = (32, 64, 128, 256, 384, 512, 768, 1024)
SIMPLE_BLOCK = 256
MAX_GRID_Y = 65535


@functools.lru_cache(maxsize=4096)
def plan_multiply(
    device: Device,
    dtype: torch.dtype,
    batch: int,
    in_size: int,
    out_size: int,
    num_diagonals: int,
    *,
    scatter: bool,
) -> Launch:
    """Return the launch of least cost for one product, of `multiply` or `naive_multiply`.

    Args:
        device: the GPU.
        dtype: of the operands.
        batch: rows of the operand, at least 1.
        in_size: columns of the operand.
        out_size: columns of the result.
        num_diagonals: K.
        scatter: whether the result is the longer side (see multiply.cu).
    """
    product = Product(batch, in_size, out_size, num_diagonals, scatter)
    launches = list(_products(device, dtype, product))
    if not launches:
        variant = Variant("naive_multiply", dtype, scatter=scatter)
        return Launch(variant, (batch, min(_simple_blocks(out_size), MAX_GRID_Y), 1), SIMPLE_BLOCK)
    if batch <= FEW_ROWS:
        launches = [one for one in launches if one.blocks >= device.sms] or launches
    return min(launches, key=lambda one: cost.multiply_cycles(device, product, one))


@functools.lru_cache(maxsize=4096)
def plan_grad_values(
    device: Device, dtype: torch.dtype, batch: int, length: int, period: int, num_diagonals: int
) -> Launch:
    """Return the launch of least cost for one gradient, of `grad_values` or `naive_grad_values`.

    Args:
        device: the GPU.
        dtype: of the operands.
        batch: rows, at least 1.
        length: D, columns of the shorter operand.
        period: P, columns of the longer operand.
        num_diagonals: K.
    """
    gradient = Gradient(batch, length, period, num_diagonals)
    launches = list(_gradients(device, dtype, gradient))
    if not launches:
        variant = Variant("naive_grad_values", dtype)
        grid = (_simple_blocks(length), min(num_diagonals, MAX_GRID_Y), 1)
        return Launch(variant, grid, SIMPLE_BLOCK)
    return min(launches, key=lambda one: cost.grad_values_cycles(device, gradient, one))


@functools.lru_cache(maxsize=4096)
def plan_reduce(dtype: torch.dtype, size: int) -> Launch:
    """Return the launch that adds up slices of `size` sums."""
    return Launch(Variant("reduce", dtype), (_simple_blocks(size), 1, 1), SIMPLE_BLOCK)


def _simple_blocks(size: int) -> int:
    return -(-size // SIMPLE_BLOCK)


def _products(device: Device, dtype: torch.dtype, product: Product) -> Iterator[Launch]:
    slicings = _slicings(product)
    for variant in _fitting(device, dtype, product):
        tiles = -(-product.batch // (variant.rows * variant.panels))
        for block, shared in _blocks(device, variant, product.in_size, product.out_size):
            for strips in _divisions(-(-product.out_size // block)):
                for slices in slicings:
                    yield Launch(variant, (tiles, strips, slices), block, shared)


def _gradients(device: Device, dtype: torch.dtype, gradient: Gradient) -> Iterator[Launch]:
    chunks = -(-gradient.num_diagonals // cost.CHUNK)
    for panels in PANELS:
        variant = Variant("grad_values", dtype, full_rows(dtype), panels)
        tiles = -(-gradient.batch // (variant.rows * panels))
        for block, shared in _blocks(device, variant, gradient.period, gradient.length):
            strips = -(-gradient.length // block)
            most = max(1, DEALT * device.sms // (strips * chunks))
            for slices in (part for part in _divisions(tiles) if part <= most):
                yield Launch(variant, (strips, chunks, slices), block, shared)


def _fitting(device: Device, dtype: torch.dtype, product: Product) -> list[Variant]:
    """Return the variants worth a comparison: all panels of full vectors, or the largest that fits.

    Few rows take the smallest vector that holds them.
    """
    full = full_rows(dtype)
    least = min([rows for rows in row_counts(dtype) if rows >= product.batch], default=full)
    tiles = [(full, panels) for panels in PANELS] if least == full else [(least, 1)]
    smaller = [(rows, 1) for rows in reversed(row_counts(dtype)) if rows < least]
    variants = [
        Variant("multiply", dtype, rows, panels, product.scatter)
        for rows, panels in tiles + smaller
    ]
    fitting = [
        one
        for one in variants
        if cost.shared_bytes(one, product.in_size, cost.WARP) <= device.shared_per_block
    ]
    return [one for one in fitting if one.rows == fitting[0].rows]


def _blocks(device: Device, variant: Variant, columns: int, size: int) -> list[tuple[int, int]]:
    """Return what a block may be, by threads and shared memory, for `size` outputs in a row."""
    most = min(cost.max_threads(variant), -(-size // cost.WARP) * cost.WARP)
    threads = [*(count for count in BLOCKS if count < most), most]
    pairs = [(count, cost.shared_bytes(variant, columns, count)) for count in threads]
    return [pair for pair in pairs if pair[1] <= device.shared_per_block]


def _divisions(count: int) -> list[int]:
    """Return the numbers of parts that differ in the size of their largest, for so many pieces."""
    return sorted({-(-count // size) for size in range(1, count + 1)})


def _slicings(product: Product) -> list[int]:
    """Return the numbers of slices of the diagonals worth a comparison: about powers of two."""
    k = product.num_diagonals
    most = k // LEAST_SLICE if product.batch <= SPLIT_BATCH else 1
    shares = [-(-k // 2**power) for power in range(max(1, most.bit_length()))]
    return [-(-k // share) for share in shares]  # none is empty
