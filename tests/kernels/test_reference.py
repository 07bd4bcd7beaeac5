from __future__ import annotations

import pytest
import torch
from torch import Tensor

import dynadiag as dd
from dynadiag import geometry, kernels
from dynadiag.bench.memory import peak_bytes

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (5, 5), (6, 4), (4, 6), (31, 48), (49, 31)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
REFERENCE = kernels.get("reference")


def draw(m: int, n: int, k: int, batch: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    x, grad = torch.randn(batch, n, dtype=dtype), torch.randn(batch, m, dtype=dtype)
    values, bias = torch.randn(k, min(m, n), dtype=dtype), torch.randn(m, dtype=dtype)
    return x, grad, values, torch.randperm(max(m, n))[:k].int(), bias


def dense(values: Tensor, offsets: Tensor, m: int, n: int) -> Tensor:
    """W by the formulas of the convention, one cell at a time."""
    weight = torch.zeros(m, n, dtype=torch.float64)
    for row_of_values, s in zip(values.double(), offsets.tolist(), strict=True):
        for i, value in enumerate(row_of_values):
            weight[((i + s) % m, i) if m >= n else (i, (i + s) % n)] = value
    return weight


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_three_products_are_those_of_the_dense_matrix(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    m, n = shape
    eps = torch.finfo(dtype).eps
    for k in {1, min(3, max(m, n)), max(m, n)}:
        x, grad, values, offsets, bias = draw(m, n, k, 5, dtype)
        weight = dense(values, offsets, m, n)
        results = (
            REFERENCE.forward(x, values, offsets, bias, m),
            REFERENCE.grad_x(grad, values, offsets, n),
            REFERENCE.grad_values(grad, x, offsets),
        )
        expected = (
            x.double() @ weight.T + bias.double(),
            grad.double() @ weight,
            (grad.double().T @ x.double())[geometry.cells(offsets, m, n)],
        )
        for result, exact in zip(results, expected, strict=True):
            torch.testing.assert_close(result.double(), exact, rtol=4 * eps, atol=32 * eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_keep_the_dtype(dtype: torch.dtype) -> None:
    x, grad, values, offsets, bias = draw(6, 4, 3, 5, dtype)
    assert REFERENCE.forward(x, values, offsets, bias, 6).dtype == dtype
    assert REFERENCE.grad_x(grad, values, offsets, 4).dtype == dtype
    assert REFERENCE.grad_values(grad, x, offsets).dtype == dtype


def test_16_bit_sums_are_kept_in_float32() -> None:
    # 1 + 256 terms of 2^-8 each: in bfloat16 every one of them would be lost.
    k = 257
    values = torch.full((k, k), 2.0**-8, dtype=torch.bfloat16)
    values[0] = 1
    x, offsets = torch.ones(1, k, dtype=torch.bfloat16), torch.arange(k, dtype=torch.int32)
    assert REFERENCE.forward(x, values, offsets, None, k).unique().tolist() == [2.0]
    grad = torch.full((257, k), 2.0**-8, dtype=torch.bfloat16)
    grad[0] = 1
    ones = torch.ones(257, k, dtype=torch.bfloat16)
    assert REFERENCE.grad_values(grad, ones, offsets).unique().tolist() == [2.0]


@pytest.mark.parametrize("shape", [(512, 512), (1024, 256), (256, 1024)], ids=str)
def test_no_dense_weight_and_no_temporary_of_every_product(shape: tuple[int, int]) -> None:
    m, n = shape
    batch, k = 64, 16
    x, grad, values, offsets, _ = draw(m, n, k, batch, torch.float32)
    products = batch * k * min(m, n) * 4
    bound = 3 * batch * max(m, n) * 4 + 9 * values.numel() * 4
    assert bound < min(products, m * n * 4)
    for call in (
        lambda: REFERENCE.forward(x, values, offsets, None, m),
        lambda: REFERENCE.grad_x(grad, values, offsets, n),
        lambda: REFERENCE.grad_values(grad, x, offsets),
    ):
        peak = peak_bytes(call)
        assert peak.reason is None
        assert peak.bytes is not None
        assert peak.bytes <= bound


def test_it_is_always_there() -> None:
    assert REFERENCE.unavailable() is None
    assert dd.backends()["reference"] is None
