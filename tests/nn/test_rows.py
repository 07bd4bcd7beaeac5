from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadiag.nn.rows import Rows, dense_gemm, embedding_bag, gemm_gather, sampled, torch_csr

DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}


@pytest.fixture
def rows() -> Rows:
    """[[0, a, 0], [0, 0, 0], [b, 0, c], [0, d, 0]]: an empty row, and rows of unlike length."""
    starts = torch.tensor([0, 1, 1, 3, 4], dtype=torch.int32)
    return Rows(starts, torch.tensor([1, 0, 2, 1], dtype=torch.int32), (4, 3))


def dense(rows: Rows, values: Tensor) -> Tensor:
    weight = values.new_zeros(rows.shape)
    weight.view(-1)[rows.positions] = values
    return weight


def test_positions(rows: Rows) -> None:
    assert rows.row_of_entry.tolist() == [0, 2, 2, 3]
    assert rows.positions.tolist() == [1, 6, 8, 10]


def test_transposed(rows: Rows) -> None:
    values = torch.arange(1.0, 5.0)
    columns, order = rows.transposed
    assert columns.shape == (3, 4)
    assert columns.problem() is None
    assert torch.equal(dense(columns, values[order]), dense(rows, values).t())


def test_even_rows() -> None:
    rows = Rows.even(torch.tensor([[0, 3], [1, 2]], dtype=torch.int32), 4)
    assert rows.starts.tolist() == [0, 2, 4]
    assert rows.positions.tolist() == [0, 3, 5, 6]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 2, 9])
@pytest.mark.parametrize("way", [torch_csr, embedding_bag, dense_gemm])
def test_products(
    rows: Rows, way: Callable[[Rows, Tensor, Tensor], Tensor], batch: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    values, x = torch.randn(4, dtype=dtype), torch.randn(batch, 3, dtype=dtype)
    product = way(rows, values, x.t())
    expected = dense(rows, values).double() @ x.t().double()
    assert product.dtype == dtype
    torch.testing.assert_close(product.double(), expected, rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("way", [sampled, gemm_gather])
def test_sampled_products(
    rows: Rows,
    way: Callable[[Rows, Tensor, Tensor, Tensor], Tensor],
    batch: int,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    gt, x = torch.randn(4, batch, dtype=dtype), torch.randn(batch, 3, dtype=dtype)
    values = torch.full((4,), torch.nan, dtype=dtype)
    expected = (gt.double() @ x.double()).flatten()[rows.positions]
    products = way(rows, values, gt, x)
    assert products.dtype == dtype
    torch.testing.assert_close(products.double(), expected, rtol=0, atol=10 * DTYPES[dtype])


@pytest.mark.parametrize(
    ("starts", "columns"),
    [
        ([0, 1, 1, 3, 4], [3, 0, 2, 1]),
        ([0, 1, 1, 3, 4], [-1, 0, 2, 1]),
        ([0, 1, 1, 3, 4], [1, 2, 0, 1]),
        ([0, 1, 1, 3, 4], [1, 2, 2, 1]),
        ([0, 3, 1, 3, 4], [1, 0, 2, 1]),
        ([0, 1, 1, 3, 9], [1, 0, 2, 1]),
    ],
    ids=["too large", "negative", "falling", "twice", "starts fall", "starts past the end"],
)
def test_problem(starts: list[int], columns: list[int]) -> None:
    first, second = (torch.tensor(numbers, dtype=torch.int32) for numbers in (starts, columns))
    assert Rows(first, second, (4, 3)).problem()
