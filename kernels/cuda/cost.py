"""What a launch costs, reckoned in clock cycles of the busiest multiprocessor.

The figures are those of an H200 by its data sheet or assumed, none measured with these kernels.
Plans compare launches with each other, so only ratios matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .device import RESERVED_SHARED_BYTES, Device
from .launcher import Grid
from .variants import Variant

WARP = 32
HALO = WARP - 1  # columns after a row of the tile (tile.cuh)
LIST_BYTES = 768  # of shared memory a warp, for the diagonals it comes to next (diagonals.cuh)
REGISTERS = 65536  # of a multiprocessor, as the sources' launch bounds reckon
BLOCKS = 16  # resident on a multiprocessor at most, on the cards that hold the fewest

SHARED_BYTES = 128  # from shared memory a clock
ISSUED = 128  # lanes an instruction serves a clock: four warps
STREAMED_BYTES = 24  # from L2 a clock: 5.5 TB/s over 132 multiprocessors at 1.755 GHz
LATENCY = 700  # clocks until a value is there
START = 1500  # clocks before a block's first product
REDUCE = 3000  # clocks of one more kernel

OVERHEAD = 6  # instructions of one diagonal beside a load and the sums of each panel
CHUNK = 32  # diagonals of a block of `grad_values`


def max_threads(variant: Variant) -> int:
    """Return the threads of a block at most: the launch bounds of multiply.cu, grad_values.cu."""
    if variant.kernel == "grad_values":
        return 768
    return {7: 512, 5: 640, 3: 1024}.get(variant.panels, 768)


def in_flight(variant: Variant) -> int:
    """Return how many diagonals a thread of `multiply` loads at once, as in multiply.cu."""
    sums = variant.rows * variant.panels
    return 16 if sums <= 4 else 8 if sums <= 8 else 4


def tile_bytes(variant: Variant, columns: int) -> int:
    """Return the shared memory of a tile of whole rows (tile.cuh), a multiple of 16 bytes."""
    size = (columns + HALO) * variant.panels * variant.rows * variant.dtype.itemsize
    return -(-size // 16) * 16


def list_bytes(threads: int) -> int:
    """Return the shared memory of the lists of a block's warps (diagonals.cuh)."""
    return LIST_BYTES * (threads // WARP)


def shared_bytes(variant: Variant, columns: int, threads: int) -> int:
    """Return the dynamic shared memory of a block."""
    return tile_bytes(variant, columns) + list_bytes(threads)


def resident(device: Device, variant: Variant, threads: int, shared: int) -> int:
    """Return how many such blocks a multiprocessor holds at once.

    A thread is reckoned with the registers that the launch bounds leave it, in units of 8.
    """
    registers = REGISTERS // max_threads(variant) // 8 * 8
    found = min(
        BLOCKS,
        device.threads_per_sm // threads,
        device.registers_per_sm // (registers * threads),
        device.shared_per_sm // (shared + RESERVED_SHARED_BYTES),
    )
    return max(1, found)  # a block that may be launched fits


@dataclass(frozen=True)
class Product:
    """One product as `multiply` sees it.

    Attributes:
        batch: rows of the operand.
        in_size: columns of the operand.
        out_size: columns of the result.
        num_diagonals: K.
        scatter: whether the result is the longer side.
    """

    batch: int
    in_size: int
    out_size: int
    num_diagonals: int
    scatter: bool

    @property
    def share(self) -> float:
        """The share of the diagonals that have cells for a warp's outputs."""
        return min(1.0, (self.in_size + HALO) / self.out_size) if self.scatter else 1.0


@dataclass(frozen=True)
class Gradient:
    """One gradient of the values as `grad_values` sees it: batch rows, D, P and K."""

    batch: int
    length: int
    period: int
    num_diagonals: int


@dataclass(frozen=True)
class Launch:
    """One way to launch a kernel.

    Attributes:
        variant: the kernel.
        grid: blocks along x, y and z.
        block: threads of a block.
        shared_bytes: dynamic shared memory of a block.
    """

    variant: Variant
    grid: Grid
    block: int
    shared_bytes: int = 0

    @property
    def blocks(self) -> int:
        """Of the whole grid."""
        return math.prod(self.grid)

    @property
    def slices(self) -> int:
        """Partial sums of each output."""
        return self.grid[2]

    @property
    def is_naive(self) -> bool:
        """Whether rows are read from global memory."""
        return self.variant.kernel.startswith("naive")


def multiply_cycles(device: Device, product: Product, launch: Launch) -> float:
    """Return the clocks of `multiply`, and of the sum of its slices."""
    variant, (_, strips, slices) = launch.variant, launch.grid
    steps = -(-product.out_size // (launch.block * strips))
    threads = min(steps * launch.block, -(-product.out_size // WARP) * WARP)
    diagonals = -(-product.num_diagonals // slices) * product.share
    loaded = variant.dtype.itemsize / STREAMED_BYTES  # of a value
    work = threads * diagonals * max(_sums_cycles(variant), loaded)
    chain = steps * _groups(round(diagonals), in_flight(variant))
    clocks = _busiest(device, launch, work + _filling(variant, product.in_size), chain)
    return clocks + _reducing(device, slices, product.batch * product.out_size)


def grad_values_cycles(device: Device, gradient: Gradient, launch: Launch) -> float:
    """Return the clocks of `grad_values`, and of the sum of its slices."""
    variant, (_, _, slices) = launch.variant, launch.grid
    tiles = -(-gradient.batch // (variant.rows * variant.panels * slices))
    threads = min(launch.block, -(-gradient.length // WARP) * WARP)
    diagonals = -(-min(CHUNK, gradient.num_diagonals) // 4) * 4
    sums = threads * diagonals * _sums_cycles(variant)
    work = tiles * (sums + _filling(variant, gradient.period + threads))
    clocks = _busiest(device, launch, work, tiles * variant.panels)
    return clocks + _reducing(device, slices, gradient.num_diagonals * gradient.length)


def _busiest(device: Device, launch: Launch, work: float, chain: int) -> float:
    """Return the clocks until all blocks are done.

    They are dealt evenly, so the busiest multiprocessor has ceil(blocks / sms) of them. Either its
    throughput binds them together, or the chain of each: loads, one waiting for the other.
    """
    blocks = -(-launch.blocks // device.sms)
    held = resident(device, launch.variant, launch.block, launch.shared_bytes)
    return max(blocks * work, -(-blocks // held) * (START + chain * LATENCY))


def _sums_cycles(variant: Variant) -> float:
    """Return the clocks of one thread's sums on one diagonal: operands read, or instructions."""
    size, panels = variant.dtype.itemsize, variant.panels
    sums = variant.rows * panels
    converted = 1 if size == 4 else 2  # instructions of an element
    return max(sums * size / SHARED_BYTES, (sums * converted + panels + OVERHEAD) / ISSUED)


def _filling(variant: Variant, columns: int) -> float:
    return tile_bytes(variant, columns) / STREAMED_BYTES


def _groups(diagonals: int, at_once: int) -> int:
    """Return the groups of so many diagonals: full ones, then halves (multiply.cu)."""
    return diagonals // at_once + (diagonals % at_once).bit_count()


def _reducing(device: Device, slices: int, size: int) -> float:
    """Return the clocks of adding up slices of float32 sums, written and read."""
    return REDUCE + 8 * slices * size / (STREAMED_BYTES * device.sms) if slices > 1 else 0.0
