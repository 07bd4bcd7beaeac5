from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dynadiag.nn import block as module
from dynadiag.nn.block import BlockLinear

WAYS: dict[str, Callable[..., Tensor]] = {
    "torch_bsr": module._torch_bsr,
    "bmm": lambda *arguments: module._sum_of_products(module._bmm, *arguments),
    "embedding_bag": lambda *arguments: module._sum_of_products(module._bags, *arguments),
}


def test_from_linear_keeps_the_heaviest_blocks() -> None:
    linear = nn.Linear(4, 4)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0, 0, 1, 1], [0, 5, 1, 1], [2, 2, 0, 0], [2, 2, 0, 3]]))
    layer = BlockLinear.from_linear(linear, sparsity=0.5, block=2)
    assert layer.row_starts.tolist() == [0, 1, 2]
    assert layer.columns.tolist() == [0, 0]
    assert layer.values.tolist() == [[[0, 0], [0, 5]], [[2, 2], [2, 2]]]


def test_weight_bytes() -> None:
    layer = BlockLinear(64, 32, sparsity=0.75, block=16)
    assert layer.weight_bytes == 2 * 256 * 4 + 2 * 4 + 3 * 4
    assert layer.index_dtype == "int32"


@pytest.mark.parametrize(
    ("sizes", "sparsity", "block", "reason"),
    [
        ((48, 64), 0.5, 32, "block is 32.*in_features = 48"),
        ((64, 48), 0.5, 32, "block is 32.*out_features = 48"),
        ((64, 64), 0.5, 0, "block is 0"),
        ((64, 64), 0.9, 32, r"sparsity 0.9 .* 0.75, the nearest that 2 x 2 blocks of 32"),
        ((384, 384), 0.99, 64, r"0.9722, the nearest that 6 x 6"),
    ],
)
def test_unreachable_is_refused(
    sizes: tuple[int, int], sparsity: float, block: int, reason: str
) -> None:
    why = BlockLinear.why_not(*sizes, sparsity, block=block)
    with pytest.raises(ValueError, match=reason) as caught:
        BlockLinear(*sizes, sparsity=sparsity, block=block)
    assert str(caught.value) == why


@pytest.mark.parametrize("block", [16, 32, 64])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_shapes_of_the_suite_are_reachable(block: int, sparsity: float) -> None:
    assert BlockLinear.why_not(768, 3072, sparsity, block=block) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_way_multiplies(way: Callable[..., Tensor], batch: int, dtype: torch.dtype) -> None:
    layer = BlockLinear(24, 16, sparsity=0.5, block=4, dtype=dtype)
    xt = torch.randn(24, batch, dtype=dtype)
    expected = layer.weight.double() @ xt.double()
    with torch.no_grad():
        product = way(layer._grid, layer.values, xt)
    tolerance = 1e-12 if dtype == torch.float64 else 5e-2
    assert product.dtype == dtype
    torch.testing.assert_close(product.double(), expected.detach(), rtol=0, atol=tolerance)


def test_temporaries_are_cut_to_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 64)
    layer = BlockLinear(24, 16, sparsity=0.5, block=4, dtype=torch.float64)
    x, gt = torch.randn(5, 24, dtype=torch.float64), torch.randn(16, 5, dtype=torch.float64)
    assert len(list(module._parts(len(layer.values), 4 * 5))) == 4
    for way in (WAYS["bmm"], WAYS["embedding_bag"]):
        torch.testing.assert_close(way(layer._grid, layer.values, x.t()), layer.weight @ x.t())
    outer = module._outer_bmm(layer._grid, 4, gt, x)
    torch.testing.assert_close(outer, layer._gather(gt @ x))


def test_repr_names_the_block() -> None:
    assert repr(BlockLinear(64, 64, sparsity=0.75)).endswith("sparsity=0.75, block=32)")
