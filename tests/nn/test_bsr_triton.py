from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.sparse import _triton_ops
from torch.utils import _triton

from dynadiag.nn import bsr_triton
from dynadiag.nn.block import BlockLinear


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Launch parameters of each call of torch's kernel, which here computes densely."""
    seen = []

    def bsr_dense_addmm(
        added: Tensor, matrix: Tensor, dense: Tensor, *, beta: int, out: Tensor, meta: Any
    ) -> Tensor:
        assert dense.shape[1] % meta["SPLIT_N"] == 0
        seen.append(meta)
        product = matrix.to_dense() @ dense
        return out.copy_(product + added if beta else product)

    monkeypatch.setattr(_triton_ops, "bsr_dense_addmm", bsr_dense_addmm)
    monkeypatch.setattr(bsr_triton, "why_not", lambda device, dtype, block: None)
    return seen


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("batch", [1, 16, 37, 197])
def test_each_way_multiplies_padded_to_full_tiles(
    launches: list[dict[str, int]], batch: int, biased: bool
) -> None:
    layer = BlockLinear(64, 32, sparsity=0.5, block=16, bias=biased)
    xt = torch.randn(batch, 64).t()
    bias = None if layer.bias is None else layer.bias.detach()
    ways = bsr_triton.ways(layer._grid, layer.values.detach(), xt, bias)
    expected = torch.nn.functional.linear(xt.t(), layer.weight, layer.bias).t().detach()
    for way in ways.values():
        product = way()
        assert product.shape == (32, batch)
        assert product._base is None
        torch.testing.assert_close(product, expected)
    assert len(launches) == len(ways)


def test_names_tell_the_parameters(launches: list[dict[str, int]]) -> None:
    layer = BlockLinear(64, 32, sparsity=0.5, block=16)
    ways = bsr_triton.ways(layer._grid, layer.values.detach(), torch.randn(64, 197), None)
    ways["triton(tile=64 stages=4 warps=8)"]()
    split = {"SPLIT_N": 4, "GROUP_SIZE_ROW": 4, "num_stages": 4, "num_warps": 8}
    assert launches == [split]


@pytest.mark.parametrize(
    ("batch", "tiles"), [(1, (16,)), (16, (16,)), (40, (16, 32)), (12608, (64, 128))]
)
def test_tiles_fit_the_batch(batch: int, tiles: tuple[int, ...]) -> None:
    assert bsr_triton.tiles(batch) == tiles


@pytest.mark.usefixtures("forget", "launches")
def test_layer_computes_forward_and_backward() -> None:
    layer = BlockLinear(64, 32, sparsity=0.5, block=16, formulation="triton")
    x = torch.randn(5, 64, requires_grad=True)
    y = layer(x)
    y.backward(torch.ones_like(y))
    torch.testing.assert_close(y, torch.nn.functional.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(5, -1))
    assert "forward triton(tile=16" in layer.config


def test_a_kernel_that_fails_is_named(
    launches: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise ValueError("out of resource: shared memory\ndetails")

    monkeypatch.setattr(_triton_ops, "bsr_dense_addmm", failing)
    layer = BlockLinear(64, 32, sparsity=0.5, block=16)
    (way, *_) = bsr_triton.ways(layer._grid, layer.values, torch.randn(64, 2), None).values()
    reason = "torch's Triton block product failed: ValueError: out of resource: shared memory"
    with pytest.raises(RuntimeError) as caught:
        way()
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("device", "dtype", "block", "reason"),
    [
        ("cpu", torch.float32, 16, "runs on cuda, not on cpu"),
        ("cuda", torch.float64, 16, "takes float16, bfloat16, float32, not float64"),
        ("cuda", torch.float16, 8, "block is 8, but .* power of two of at least 16"),
        ("cuda", torch.float16, 48, "block is 48"),
    ],
)
def test_why_not(device: str, dtype: torch.dtype, block: int, reason: str) -> None:
    sizes = (96 * block, 96 * block, 0.5, dtype)
    why = BlockLinear.why_not(*sizes, block=block, formulation="triton", device=device)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(why)


def test_without_triton_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "has_triton", lambda: False)
    assert "pip install triton" in str(bsr_triton.why_not("cuda", torch.float16, 32))
    monkeypatch.setattr(_triton, "has_triton", lambda: True)
    assert bsr_triton.why_not("cuda", torch.float16, 32) is None


def test_triton_is_looked_for_in_a_process_that_imported_nothing_else() -> None:
    program = (
        "import torch; from dynadiag.nn import bsr_triton;"
        "bsr_triton.why_not('cuda', torch.float16, 32)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
