from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.nn.csr import CSRLinear


def test_from_linear_keeps_the_largest_anywhere() -> None:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -5.0, 2.0], [0.5, 0.25, -6.0]]))
    layer = CSRLinear.from_linear(linear, sparsity=0.5)
    assert layer.values.tolist() == [-5.0, 2.0, -6.0]
    assert layer.row_starts.tolist() == [0, 2, 3]
    assert layer.columns.tolist() == [1, 2, 2]


def test_weight_bytes() -> None:
    layer = CSRLinear(8, 4, sparsity=0.75, dtype=torch.bfloat16)
    assert layer.weight_bytes == 8 * 2 + 8 * 4 + 5 * 4
    assert layer.index_dtype == "int32"


def test_weight_bytes_do_not_grow_with_the_first_backward() -> None:
    layer = CSRLinear(8, 4, sparsity=0.75)
    before = layer.weight_bytes
    layer(torch.randn(2, 8)).sum().backward()
    assert layer.weight_bytes == before
    assert set(layer.state_dict()) == {"values", "row_starts", "columns", "bias"}


@pytest.mark.parametrize(("sparsity", "nnz"), [(0.0, 35), (0.8, 7), (0.99, 1)])
def test_number_kept(sparsity: float, nnz: int) -> None:
    assert CSRLinear(7, 5, sparsity=sparsity).nnz == nnz


def test_random_pattern_covers_the_matrix_evenly() -> None:
    torch.manual_seed(0)
    kept = sum((CSRLinear(10, 10, sparsity=0.5).weight != 0).double() for _ in range(100))
    assert isinstance(kept, torch.Tensor)
    assert float(kept.min()) > 25
    assert float(kept.max()) < 75
