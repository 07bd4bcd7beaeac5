from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.dst.methods import PixelatedButterfly


@pytest.mark.parametrize(
    ("out", "size", "block"),
    [(64, 64, 4), (256, 64, 4), (768, 768, 32), (3072, 768, 32), (96, 40, 2), (7, 5, 1)],
)
def test_blocks_fit_the_layer(out: int, size: int, block: int) -> None:
    method = PixelatedButterfly()
    assert method.side(out, size) == block
    assert method.granularity(out, size) == block**2
    assert PixelatedButterfly(block=2).side(out, size) == min(block, 2)


@pytest.mark.parametrize(("out", "size"), [(64, 64), (256, 64), (48, 80), (7, 5)])
@pytest.mark.parametrize("low_rank", [0.0, 0.25, 0.6])
def test_blocks_and_low_rank_fill_the_budget_exactly(out: int, size: int, low_rank: float) -> None:
    method = PixelatedButterfly(low_rank=low_rank)
    unit = method.granularity(out, size)
    ranks = set()
    for kept in range(1, out * size // unit + 1, 5):
        rank = method.rank(out, size, kept)
        assert rank * (out + size) % unit == 0
        assert rank * (out + size) < kept * unit
        ranks.add(rank)
    assert (max(ranks) > 0) == (low_rank > 0)
    kept = out * size // unit // 3
    layer = method.build(nn.Linear(size, out), kept, torch.Generator())
    assert layer.nnz == kept * unit
    assert layer.block**2 == unit


def test_the_low_rank_term_takes_about_its_share() -> None:
    layer = PixelatedButterfly().build(nn.Linear(256, 256), 64, torch.Generator())
    assert layer.rank * 512 / layer.nnz == pytest.approx(0.25, abs=0.05)


def test_the_topology_follows_from_the_sizes() -> None:
    layers = [
        PixelatedButterfly().build(nn.Linear(64, 64), 40, torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    ]
    assert torch.equal(layers[0].blocks.columns, layers[1].blocks.columns)
