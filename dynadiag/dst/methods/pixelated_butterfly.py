"""Pixelated butterfly: a fixed flat block butterfly plus a low rank (arXiv 2112.00029)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn

from ...nn.butterfly import ButterflyLinear
from ..build import copy_bias
from ..method import Method, check_option

_SIDE = 16  # blocks along the shorter side, at least: a diagonal of them is then 6 % of a layer


@final
@dataclass(frozen=True)
class PixelatedButterfly(Method):
    """A topology of blocks that never moves, chosen for the hardware.

    About `low_rank` of the weights make a low-rank term, in whole ranks whose weights fill whole
    blocks; at high sparsity that is none.

    Attributes:
        block: side of the blocks at most; a layer takes the largest power of two that divides its
            sizes and leaves sixteen blocks along the shorter one.
        low_rank: share of the weights in the low-rank term.
    """

    name: ClassVar[str] = "pixelated_butterfly"
    layer: ClassVar[str] = "butterfly"

    block: int = 32
    low_rank: float = 0.25

    def __post_init__(self) -> None:
        check_option("block", self.block, self.block >= 1, "at least 1")
        check_option("low_rank", self.low_rank, 0 <= self.low_rank < 1, "a share in [0, 1)")

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> ButterflyLinear:
        """Return a layer with as many weights as `kept` blocks have; see `Method.build`."""
        rows, columns, weight = linear.out_features, linear.in_features, linear.weight
        block = self.side(rows, columns)
        rank = self.rank(rows, columns, kept)
        layer = ButterflyLinear(
            columns,
            rows,
            linear.bias is not None,
            block=block,
            num_blocks=kept - rank * (rows + columns) // block**2,
            rank=rank,
            device=weight.device,
            dtype=weight.dtype,
        )
        copy_bias(layer, linear)
        return layer

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return the weights of a block."""
        return self.side(out_features, in_features) ** 2

    def side(self, out_features: int, in_features: int) -> int:
        """Return the side of the blocks of a layer."""
        side = 1
        while (
            2 * side <= self.block
            and out_features % (2 * side) == in_features % (2 * side) == 0
            and min(out_features, in_features) >= 2 * side * _SIDE
        ):
            side *= 2
        return side

    def rank(self, out_features: int, in_features: int, kept: int) -> int:
        """Return the rank nearest to the share asked for, out of those that fill whole blocks.

        One block at least is left to the butterfly.
        """
        block = self.side(out_features, in_features)
        step = block // math.gcd(block, (out_features + in_features) // block)
        cost = step * (out_features + in_features) // block**2
        return step * min(round(self.low_rank * kept / cost), (kept - 1) // cost)
