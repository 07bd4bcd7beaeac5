from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynadiag.nn import cusparse_csr
from dynadiag.nn.csr import CSRLinear
from dynadiag.nn.rows import Rows, written_out

from .fake_cusparse import FakeCusparse

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 5e-2,
    torch.float16: 5e-3,
}


@pytest.fixture
def rows() -> Rows:
    """An empty row, and rows of unlike length."""
    starts = torch.tensor([0, 1, 1, 3, 4], dtype=torch.int32)
    return Rows(starts, torch.tensor([1, 0, 2, 1], dtype=torch.int32), (4, 3))


def assert_product(product: Tensor, weight: Tensor, xt: Tensor) -> None:
    assert product.dtype == xt.dtype
    torch.testing.assert_close(
        product.double(), weight.double() @ xt.double(), rtol=0, atol=TOLERANCE[xt.dtype]
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("name", list(cusparse_csr._WAYS))
def test_each_way_multiplies_whatever_the_strides(
    library: FakeCusparse, rows: Rows, name: str, transposed: bool, dtype: torch.dtype
) -> None:
    values = torch.randn(4, dtype=dtype)
    xt = torch.randn(5, 3, dtype=dtype).t() if transposed else torch.randn(3, 5, dtype=dtype)
    product = cusparse_csr.ways(rows, values, xt)[name]()
    assert_product(product, written_out(rows, values), xt)
    assert product.is_contiguous() == ("row" in name)
    assert product._base is None


def test_the_stream_is_the_one_torch_has_at_the_call(library: FakeCusparse, rows: Rows) -> None:
    ways = cusparse_csr.ways(rows, torch.randn(4), torch.randn(3, 2))
    for library.torch_stream in (5, 9):
        ways["cusparse(alg2 row)"]()
    assert library.seen == [(5, 6), (9, 6)]
    assert library.cupy_streams == [0]


def test_a_refused_call_gives_one_line_and_releases_everything(
    library: FakeCusparse, rows: Rows
) -> None:
    library.refused = {12}
    way = cusparse_csr.ways(rows, torch.randn(4), torch.randn(3, 2))["cusparse(alg3 row)"]
    with pytest.raises(RuntimeError, match=r"^cuSPARSE SpMM failed: .*NOT_SUPPORTED.*$") as caught:
        way()
    assert "\n" not in str(caught.value)


def test_codes_are_those_of_the_header() -> None:
    assert cusparse_csr.ALGORITHMS == {"alg1": 4, "alg2": 6, "alg3": 12}


@pytest.mark.usefixtures("forget")
def test_layer_computes_forward_and_backward_by_cusparse(library: FakeCusparse) -> None:
    layer = CSRLinear(24, 16, sparsity=0.75, formulation="cusparse", dtype=torch.float64)
    x = torch.randn(5, 24, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.backward(torch.ones_like(y))
    torch.testing.assert_close(y, torch.nn.functional.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(5, -1))
    assert "forward cusparse(alg" in layer.config
    assert "grad_x cusparse(alg" in layer.config
    assert {algorithm for _, algorithm in library.seen} == {4, 6, 12}


def test_on_the_cpu_the_layer_says_why_not() -> None:
    layer = CSRLinear(8, 4, sparsity=0.5, formulation="cusparse")
    with pytest.raises(RuntimeError, match="cuSPARSE runs on cuda, not on cpu"):
        layer(torch.randn(2, 8))
