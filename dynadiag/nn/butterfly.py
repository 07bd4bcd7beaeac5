"""The pixelated butterfly rival: blocks along a flattened butterfly, plus a low-rank term."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from .base import SparseLinear
from .block import BlockLinear


@final
class ButterflyLinear(SparseLinear):
    """y = x (B + L R)ᵀ + b, B made of blocks and L R of low rank (arXiv 2112.00029, section 3).

    B takes its blocks from the factors of a butterfly matrix, the near ones first; see
    `butterfly_blocks`. The published code weighs B against L R by a gate, which B and L can absorb.

    Args:
        in_features: a multiple of `block`.
        out_features: a multiple of `block`.
        bias: whether to add a bias.
        block: side of a block.
        num_blocks: blocks of B, at least 1.
        rank: of L R; 0 leaves it out.
        device: where parameters and buffers live.
        dtype: of the parameters.

    Attributes:
        blocks: B, without bias.
        left: L, (out_features, rank), or None.
        right: R, (rank, in_features), or None.
    """

    format: ClassVar[str] = "butterfly"
    pattern: ClassVar[tuple[str, ...]] = ()
    left: nn.Parameter | None
    right: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        block: int,
        num_blocks: int,
        rank: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        grid = _grid(in_features, out_features, block, num_blocks, rank)
        kept = num_blocks * block**2 + rank * (in_features + out_features)
        sparsity = max(0.0, 1 - kept / (in_features * out_features))
        super().__init__(
            in_features, out_features, bias, sparsity=sparsity, device=device, dtype=dtype
        )
        self.block, self.num_blocks, self.rank = block, num_blocks, rank
        pattern = nn.Linear(in_features, out_features, bias=False, device=device, dtype=dtype)
        with torch.no_grad():
            cells = butterfly_blocks(*grid, num_blocks)
            pattern.weight.copy_(torch.kron(cells.float(), torch.ones(block, block)))
        self.blocks = BlockLinear.from_linear(
            pattern, sparsity=1 - num_blocks / math.prod(grid), block=block
        )
        for name, shape in (("left", (out_features, rank)), ("right", (rank, in_features))):
            factor = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, factor if rank else None)
        self.reset_parameters()

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
        """Return None: with blocks of side 1 every shape and sparsity is possible."""
        return None

    @property
    def values(self) -> nn.Parameter:  # type: ignore[override]
        """The blocks of B, (num_blocks, block, block)."""
        return self.blocks.values

    @property
    def nnz(self) -> int:
        """Number of weights in B, L and R."""
        return self.blocks.nnz + self.rank * (self.in_features + self.out_features)

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in B, L and R."""
        if self.left is None or self.right is None:
            return self.blocks.weight
        return self.blocks.weight + self.left @ self.right

    @property
    def weight_bytes(self) -> int:
        """Bytes of B with its indices, of L and of R."""
        low_rank = (self.nnz - self.blocks.nnz) * self.values.element_size()
        return self.blocks.weight_bytes + low_rank

    @property
    def index_dtype(self) -> str | None:
        """Name of the dtype of the indices of B."""
        return self.blocks.index_dtype

    @property
    def config(self) -> str:
        """How B is multiplied, and the rank beside it."""
        return f"{self.blocks.config} rank={self.rank}"

    @classmethod
    def from_linear(cls, linear: nn.Linear, **structure: Any) -> Self:
        """Return the layer whose B is what its blocks cover, and L R the best fit of the rest.

        Args:
            linear: the dense layer, left as it is.
            structure: `block`, `num_blocks` and `rank`.
        """
        weight = linear.weight.detach()
        layer = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
            **structure,
        )
        with torch.no_grad():
            layer.values.copy_(layer._gather(weight))
            if layer.left is not None and layer.right is not None:
                u, s, v = torch.linalg.svd((weight - layer.blocks.weight).float())
                layer.left.copy_(u[:, : layer.rank] * s[: layer.rank])
                layer.right.copy_(v[: layer.rank])
            if layer.bias is not None:
                layer.bias.copy_(linear.bias)
        return layer

    def reset_parameters(self) -> None:
        """Draw all so that outputs have the variance that those of `nn.Linear` have."""
        super().reset_parameters()
        if self.left is not None and self.right is not None:
            share = 1 - self.blocks.nnz / self.nnz
            nn.init.uniform_(
                self.right, -math.sqrt(3 / self.in_features), math.sqrt(3 / self.in_features)
            )
            nn.init.uniform_(self.left, -math.sqrt(share / self.rank), math.sqrt(share / self.rank))

    def extra_repr(self) -> str:
        """Return the constructor arguments, with the sparsity that was reached."""
        return f"{super().extra_repr()}, rank={self.rank}"

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        y = self.blocks._multiply(x, values, bias)
        if self.left is None or self.right is None:
            return y
        return y + x @ self.right.to(x.dtype).T @ self.left.to(x.dtype).T

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        return ()

    def _gather(self, dense: Tensor) -> Tensor:
        return self.blocks._gather(dense)

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        return None


def butterfly_blocks(rows: int, columns: int, count: int) -> Tensor:
    """Return the first `count` blocks of a flattened butterfly, a bool mask (rows, columns).

    The grid of blocks is laid over one of 2^k x 2^k cells, 2^k at most the smaller side. Taken
    first are the blocks whose cells lie on the diagonal, then those of cells (i, i xor 1), then of
    (i, i xor 2), (i, i xor 4) and so on, at last all others; of those that fit in part, an even
    choice.
    """
    cells = 1 << (min(rows, columns).bit_length() - 1)
    down = torch.arange(rows) * cells // rows
    across = torch.arange(columns) * cells // columns
    apart = (down.unsqueeze(1) ^ across).flatten()
    mask = torch.zeros(rows * columns, dtype=torch.bool)
    strides = [1 << factor for factor in range(cells.bit_length() - 1)]
    factors = [apart == stride for stride in (0, *strides)]
    rest = ~torch.stack(factors).any(0)
    for factor in (*factors, rest):
        places = factor.nonzero()[:, 0]
        taken = min(count - int(mask.sum()), len(places))
        mask[places[torch.arange(taken) * len(places) // max(1, taken)]] = True
    return mask.view(rows, columns)


def _grid(
    in_features: int, out_features: int, block: int, num_blocks: int, rank: int
) -> tuple[int, int]:
    """Return the block rows and columns there are; raise ValueError if the layer cannot be."""
    if block < 1 or in_features % block or out_features % block:
        raise ValueError(
            f"block is {block}, but must be at least 1 and divide both in_features = {in_features} "
            f"and out_features = {out_features}"
        )
    rows, columns = out_features // block, in_features // block
    if not 1 <= num_blocks <= rows * columns:
        raise ValueError(
            f"num_blocks is {num_blocks}, but a layer of {rows} x {columns} blocks keeps 1 to "
            f"{rows * columns}"
        )
    if not 0 <= rank <= min(in_features, out_features):
        raise ValueError(
            f"rank is {rank}, but must lie in 0 to {min(in_features, out_features)}, the smaller "
            "side of the layer"
        )
    return rows, columns
