from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dynadiag.nn.butterfly import ButterflyLinear, butterfly_blocks


def test_factors_come_in_the_order_of_their_stride() -> None:
    diagonal = torch.eye(4, dtype=torch.bool)
    assert torch.equal(butterfly_blocks(4, 4, 4), diagonal)
    pairs = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).bool()
    assert torch.equal(butterfly_blocks(4, 4, 8), pairs)
    assert torch.equal(butterfly_blocks(4, 4, 12), ~torch.eye(4, dtype=torch.bool).flip(0))
    assert bool(butterfly_blocks(4, 4, 16).all())


def test_a_factor_in_part_is_taken_evenly() -> None:
    assert butterfly_blocks(8, 8, 2).nonzero().tolist() == [[0, 0], [4, 4]]
    extra = butterfly_blocks(8, 8, 12) & ~torch.eye(8, dtype=torch.bool)
    assert extra.nonzero()[:, 0].tolist() == [0, 2, 4, 6]


def test_rectangles_stretch_the_cells() -> None:
    mask = butterfly_blocks(8, 2, 8)
    assert mask.nonzero().tolist() == [[row, row // 4] for row in range(8)]


@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_there_are_as_many_blocks_as_asked(rows: int, columns: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, rows * columns))
    mask = butterfly_blocks(rows, columns, count)
    assert mask.shape == (rows, columns)
    assert int(mask.sum()) == count


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_forward_and_gradients_are_those_of_the_dense_weight(rank: int, bias: bool) -> None:
    layer = ButterflyLinear(16, 24, bias, block=4, num_blocks=9, rank=rank, dtype=torch.float64)
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x), nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(y, expected)
    wanted = [x, *layer.parameters()]
    g = torch.randn_like(y)
    mine, dense = (torch.autograd.grad(out, wanted, g) for out in (y, expected))
    torch.testing.assert_close(mine, dense)


def test_sizes_count_blocks_and_low_rank() -> None:
    layer = ButterflyLinear(16, 24, block=4, num_blocks=9, rank=2)
    assert layer.nnz == 9 * 16 + 2 * 40
    assert layer.sparsity == layer.requested_sparsity == 1 - 224 / 384
    assert layer.weight_bytes == 224 * 4 + 9 * 4 + 7 * 4
    assert layer.index_dtype == "int32"
    assert int((layer.blocks.weight != 0).sum()) == 9 * 16


def test_autocast_computes_in_its_dtype() -> None:
    layer = ButterflyLinear(16, 16, block=4, num_blocks=6, rank=2)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(3, 16))
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize("rank", [0, 5])
def test_from_linear_keeps_blocks_and_fits_the_rest(rank: int) -> None:
    linear = nn.Linear(16, 24)
    layer = ButterflyLinear.from_linear(linear, block=4, num_blocks=9, rank=rank)
    rest = linear.weight - layer.weight
    covered = layer.blocks.weight != 0
    torch.testing.assert_close(layer.blocks.weight[covered], linear.weight[covered])
    full = linear.weight.detach() * ~covered
    least = torch.linalg.svdvals(full)[rank:].square().sum().sqrt()
    torch.testing.assert_close(rest.norm().detach(), least, rtol=1e-4, atol=1e-4)
    assert torch.equal(layer.bias, linear.bias)  # type: ignore[arg-type]


def test_to_linear_computes_the_same() -> None:
    layer = ButterflyLinear(16, 24, block=8, num_blocks=3, rank=1)
    x = torch.randn(3, 16)
    torch.testing.assert_close(layer.to_linear()(x), layer(x))


def test_state_round_trip() -> None:
    first, second = (ButterflyLinear(16, 24, block=4, num_blocks=9, rank=2) for _ in range(2))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.weight, second.weight)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"block": 5, "num_blocks": 2}, "block is 5, but must be at least 1 and divide both in_feat"),
    ({"block": 4, "num_blocks": 25}, "num_blocks is 25, but a layer of 6 x 4 blocks keeps 1 to 24"),
    ({"block": 4, "num_blocks": 0}, "num_blocks is 0"),
    ({"block": 4, "num_blocks": 2, "rank": 17}, "rank is 17, but must lie in 0 to 16"),
]


@pytest.mark.parametrize(("structure", "message"), BAD)
def test_what_cannot_be_is_refused(structure: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ButterflyLinear(16, 24, **structure)
