"""DSB: dynamic shuffled blocks (Jiang et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from ...nn import MaskedDenseLinear
from ...nn.dynamic import DynamicLinear
from ..build import masked
from ..method import check_option
from ..periodic import PeriodicMethod
from ..topology import random_scores, strongest


class Blocks(NamedTuple):
    """Any `block` rows crossed with any `block` columns, n times.

    Attributes:
        rows: (n, block) int64.
        columns: (n, block) int64.
    """

    rows: Tensor
    columns: Tensor

    @property
    def cells(self) -> tuple[Tensor, Tensor]:
        """The index of all cells, (n, block, block), into a matrix."""
        return self.rows.unsqueeze(2), self.columns.unsqueeze(1)


@final
@dataclass(frozen=True)
class DSB(PeriodicMethod):
    """RigL whose entries are gathered, after each update, into blocks of shuffled rows and columns.

    Rows are grouped by the likeness of their masks; the columns of each group are sorted by the
    norm of their weights and cut into blocks, and the strongest blocks of the layer are kept. An
    entry within a block is dropped only along with half of its row or column there. The published
    code clusters rows by complete linkage and cuts the clusters into groups; here a group is a row
    and those most like it.

    Frozen layers are CSR: the groups choose different columns, so that no order of rows and columns
    makes the blocks those of a block-sparse layer.

    Attributes:
        block: side of a block; has to divide both sizes of a layer.
    """

    name: ClassVar[str] = "dsb"
    layer: ClassVar[str] = "block"

    block: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option("block", self.block, self.block >= 1, "at least 1")

    @property
    def needs_gradient(self) -> bool:
        """True: growth looks at the gradients of inactive entries."""
        return True

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> MaskedDenseLinear:
        """Return a masked layer of `kept` random shuffled blocks; see `Method.build`."""
        every = torch.ones(linear.out_features, linear.in_features, dtype=torch.bool)
        order = torch.randperm(linear.out_features, generator=generator)
        groups = order.view(-1, self.block)
        blocks = strongest_blocks(groups, random_scores(every, generator), kept)
        return masked(linear, covered(blocks, every), kept * self.block**2)

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return the weights of a block."""
        return self.block**2

    def why_not(self, out_features: int, in_features: int, sparsity: float) -> str | None:
        """Return that blocks do not fit, or what `Method.why_not` does."""
        if out_features % self.block or in_features % self.block:
            return (
                f"block is {self.block}, but must divide both out_features = {out_features} and "
                f"in_features = {in_features}; pass another block or exclude the layer"
            )
        return super().why_not(out_features, in_features, sparsity)

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active entries after the update; see `PeriodicMethod.topology`."""
        active, strength = layer.active(), layer.strength()
        count = layer.num_active_target // self.block**2
        weak = active & ~self._strong(active, strength, step, total)
        blocks = strongest_blocks(alike(active, self.block), strength * active, count)
        kept = active & ~in_bulk(weak, blocks)
        moving = min(int(active.sum() - kept.sum()), int((~active).sum()))
        grown = strongest(~active, layer.gradient_strength(), moving)
        scores = torch.where(grown, strength[kept].mean(), strength * kept)
        groups = alike(kept | grown, self.block)
        return covered(strongest_blocks(groups, scores, count), active)

    def _strong(self, active: Tensor, strength: Tensor, step: int, total: int) -> Tensor:
        there = int(active.sum())
        return strongest(active, strength, there - int(self.fraction(step, total) * there))


def alike(mask: Tensor, block: int) -> Tensor:
    """Return groups of `block` rows with similar masks, (out_features / block, block) int64.

    One row after another is joined by the free rows of the largest cosine similarity, ties by
    index. A column that all rows share makes empty rows alike, too.
    """
    ones = mask.float().cpu()
    sizes = ones.sum(1) + 1
    similarity = (ones @ ones.T + 1) / (sizes.outer(sizes)).sqrt()
    free = torch.ones(len(mask), dtype=torch.bool)
    groups = []
    for _ in range(len(mask) // block):
        first = int(free.nonzero()[0])
        groups.append(strongest(free, similarity[first], block))
        free &= ~groups[-1]
    return torch.stack([group.nonzero()[:, 0] for group in groups]).to(mask.device)


def strongest_blocks(groups: Tensor, scores: Tensor, count: int) -> Blocks:
    """Return the `count` blocks of the largest summed column norms, ties by index.

    Args:
        groups: (g, block) the rows of each group.
        scores: (out_features, in_features).
        count: of blocks, over all groups.
    """
    norms, order = scores[groups].norm(dim=1).sort(dim=1, descending=True, stable=True)
    sums = norms.unflatten(1, (-1, groups.shape[1])).sum(2)
    group, place = strongest(torch.ones_like(sums, dtype=torch.bool), sums, count).nonzero().T
    return Blocks(groups[group], order.unflatten(1, (-1, groups.shape[1]))[group, place])


def covered(blocks: Blocks, like: Tensor) -> Tensor:
    """Return the mask, in the shape of `like`, of the cells of blocks."""
    mask = torch.zeros_like(like)
    mask[blocks.cells] = True
    return mask


def in_bulk(weak: Tensor, blocks: Blocks) -> Tensor:
    """Return the weak entries that half of their row or of their column in a block shares."""
    cells = weak[blocks.cells]
    half = blocks.rows.shape[1] / 2
    bulk = (cells.sum(1, keepdim=True) >= half) | (cells.sum(2, keepdim=True) >= half)
    shared = torch.zeros_like(weak)
    shared[blocks.cells] = cells & bulk
    return shared
