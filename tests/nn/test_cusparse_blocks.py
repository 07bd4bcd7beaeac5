from __future__ import annotations

from functools import partial

import pytest
import torch

from dynadiag.nn import cusparse_blocks
from dynadiag.nn.block import BlockLinear
from dynadiag.nn.rows import Rows

from .fake_cusparse import FakeCusparse, Function

NAMES = [f"{name}({order})" for name in cusparse_blocks.FORMULATIONS for order in ("row", "column")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 5])
def test_each_way_multiplies(library: FakeCusparse, name: str, batch: int) -> None:
    layer = BlockLinear(24, 16, sparsity=0.5, block=4, dtype=torch.float64)
    grid, blocks = layer._grid, layer.values.detach()
    xt = torch.randn(batch, 24, dtype=torch.float64).t()
    pad = partial(cusparse_blocks.padded, grid, blocks)
    product = cusparse_blocks.ways(grid, blocks, xt, pad)[name]()
    torch.testing.assert_close(product, layer.weight.detach() @ xt)


def test_padded_rows_are_zero_past_the_end() -> None:
    starts = torch.tensor([0, 2, 2, 3], dtype=torch.int32)
    grid = Rows(starts, torch.tensor([0, 2, 1], dtype=torch.int32), (3, 3))
    columns, places = grid.ell
    assert columns.dtype == torch.int32
    assert columns.tolist() == [[0, 2], [-1, -1], [1, -1]]
    assert places.tolist() == [0, 1, 0]
    blocks = torch.tensor([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]])
    assert cusparse_blocks.padded(grid, blocks).tolist() == [
        [1, 2, 5, 6],
        [3, 4, 7, 8],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [9, 10, 0, 0],
        [11, 12, 0, 0],
    ]


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("formulation", cusparse_blocks.FORMULATIONS)
def test_layer_computes_forward_and_backward(library: FakeCusparse, formulation: str) -> None:
    layer = BlockLinear(24, 16, sparsity=0.5, block=4, formulation=formulation)
    x = torch.randn(5, 24, requires_grad=True)
    y = layer(x)
    y.backward(torch.ones_like(y))
    torch.testing.assert_close(y, torch.nn.functional.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(5, -1))
    assert f"forward {formulation}(" in layer.config


def test_weights_are_padded_once_for_each_version(
    library: FakeCusparse, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    padded = cusparse_blocks.padded

    def counted(grid: Rows, blocks: torch.Tensor) -> torch.Tensor:
        calls.append(len(blocks))
        return padded(grid, blocks)

    monkeypatch.setattr(cusparse_blocks, "padded", counted)
    layer = BlockLinear(24, 16, sparsity=0.5, block=4, formulation="cusparse_ell")
    x = torch.randn(5, 24)
    with torch.no_grad():
        layer(x)
        layer(x)
        assert len(calls) == 1
        layer.values.mul_(2)
        torch.testing.assert_close(
            layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias)
        )
    assert len(calls) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_library_that_refuses_gives_its_words(library: FakeCusparse, name: str) -> None:
    refusing = Function(lambda *arguments: 10)
    library.cusparseCreateBsr = library.cusparseCreateBlockedEll = refusing  # type: ignore[attr-defined]
    layer = BlockLinear(8, 8, sparsity=0.5, block=4)
    pad = partial(cusparse_blocks.padded, layer._grid, layer.values)
    way = cusparse_blocks.ways(layer._grid, layer.values, torch.randn(8, 2), pad)[name]
    with pytest.raises(RuntimeError, match=r"cuSPARSE SpMM failed.*cusparseCreateB.*not supported"):
        way()


def test_a_library_too_old_is_named(library: FakeCusparse) -> None:
    del library.cusparseCreateBsr  # type: ignore[attr-defined]
    layer = BlockLinear(8, 8, sparsity=0.5, block=4, formulation="cusparse_bsr")
    with pytest.raises(RuntimeError, match="cusparseCreateBsr"):
        layer(torch.randn(2, 8))


@pytest.mark.parametrize("formulation", cusparse_blocks.FORMULATIONS)
def test_why_not_on_the_cpu(formulation: str) -> None:
    reason = "cuSPARSE runs on cuda, not on cpu"
    assert BlockLinear.why_not(64, 64, 0.5, block=16, formulation=formulation) == reason
    with pytest.raises(RuntimeError, match=reason):
        BlockLinear(64, 64, sparsity=0.5, block=16, formulation=formulation)(torch.randn(1, 64))
