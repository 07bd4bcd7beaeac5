from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynadiag.dst.methods import DSB
from dynadiag.dst.methods.dsb import Blocks, alike, covered, in_bulk, strongest_blocks

from .toy import build, train


def are_shuffled_blocks(mask: Tensor, block: int) -> bool:
    """Whether rows come in groups of `block` that share the columns of whole blocks."""
    _, sizes = mask.unique(dim=0, return_counts=True)
    columns = mask.sum(1)
    return not bool((sizes % block).any()) and not bool((columns % block).any())


@pytest.mark.parametrize(("block", "kept"), [(2, 40), (4, 8), (8, 3)])
def test_every_topology_is_made_of_shuffled_blocks(block: int, kept: int) -> None:
    method = DSB(block=block, drop=0.5)
    layer = build(method, kept=kept)
    assert are_shuffled_blocks(layer.active(), block)
    moved = 0
    for done in train(method, layer):
        assert are_shuffled_blocks(done.after, block)
        assert int(done.after.sum()) == kept * block**2
        moved += int(done.grown.sum())
    assert moved > 0


def test_a_full_layer_stays_full() -> None:
    method = DSB(block=4)
    layer = build(method, kept=32)
    assert all(bool(done.after.all()) for done in train(method, layer))


def test_groups_are_found_again_whatever_the_order_of_rows() -> None:
    masks = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]]).bool()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)) % 4
    groups = alike(masks[order], 3)
    assert sorted(groups.flatten().tolist()) == list(range(12))
    for group in groups:
        assert len(order[group].unique()) == 1


def test_the_strongest_blocks_have_the_largest_columns() -> None:
    scores = torch.zeros(4, 4)
    scores[0], scores[3, 1] = torch.tensor([5.0, 0.0, 4.0, 0.0]), 3.0
    groups = torch.tensor([[0, 1], [2, 3]])
    blocks = strongest_blocks(groups, scores, 2)
    assert blocks.rows.tolist() == [[0, 1], [2, 3]]
    assert blocks.columns.tolist() == [[0, 2], [1, 0]]
    mask = covered(blocks, scores != 0)
    assert mask.int().tolist() == [[1, 0, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_a_drop_needs_half_a_row_or_column_of_its_block() -> None:
    blocks = Blocks(torch.tensor([[0, 1, 2, 3]]), torch.tensor([[5, 4, 1, 0]]))
    weak = torch.zeros(4, 6, dtype=torch.bool)
    weak[0, 4] = weak[0, 1] = True  # half of a row
    weak[2, 0] = True  # alone
    weak[1, 3] = weak[3, 3] = True  # in no block
    assert in_bulk(weak, blocks).nonzero().tolist() == [[0, 1], [0, 4]]
    weak[3, 0] = True  # now half of a column
    assert in_bulk(weak, blocks).nonzero().tolist() == [[0, 1], [0, 4], [2, 0], [3, 0]]


def test_a_block_has_to_divide_both_sizes() -> None:
    assert DSB(block=4).why_not(32, 16, 0.9) is None
    for out, size in ((30, 16), (32, 18)):
        reason = DSB(block=4).why_not(out, size, 0.9)
        assert reason is not None
        assert f"must divide both out_features = {out} and in_features = {size}" in reason
    assert "less than half" in str(DSB(block=16).why_not(32, 16, 0.9))


def test_the_first_blocks_spread_over_rows_and_columns() -> None:
    layer = DSB(block=4).build(nn.Linear(64, 64), 64, torch.Generator())
    mask = layer.active()
    assert are_shuffled_blocks(mask, 4)
    assert int(mask.any(0).sum()) > 48
    assert int(mask.any(1).sum()) > 48
