from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dynadiag import kernels, operators

OPS = torch.ops.dynadiag
NAMES = [
    "diagonal_linear",
    "diagonal_grad_x",
    "diagonal_grad_values",
    "diagonal_to_dense",
    "dense_to_diagonal",
]
SHAPES = [(6, 6), (7, 4), (4, 7)]


def arguments(name: str, m: int, n: int, dtype: torch.dtype, backend: str) -> tuple[Any, ...]:
    torch.manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, requires_grad=True)

    offsets = torch.tensor([max(m, n) - 1, 0, 2], dtype=torch.int32)
    x, grad, values, weight = leaf(2, 3, n), leaf(2, 3, m), leaf(3, min(m, n)), leaf(m, n)
    return {
        "diagonal_linear": (x, values, offsets, leaf(m), m, backend),
        "diagonal_grad_x": (grad, values, offsets, n, backend),
        "diagonal_grad_values": (grad, x, offsets, backend),
        "diagonal_to_dense": (values, offsets, m, n),
        "dense_to_diagonal": (weight, offsets),
    }[name]


@pytest.mark.parametrize(
    ("dtype", "backend"), [(torch.float64, "reference"), (torch.float32, "cpu")], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str, dtype: torch.dtype, backend: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        reason = kernels.get(backend).unavailable()
    if reason is not None:
        pytest.skip(reason)
    for m, n in SHAPES:
        given = arguments(name, m, n, dtype, backend)
        torch.library.opcheck(getattr(OPS, name).default, given)


@pytest.mark.parametrize("name", NAMES)
def test_fakes_have_the_shape_and_dtype_of_results(name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for m, n in SHAPES:
            given = arguments(name, m, n, dtype, "reference")
            real = getattr(OPS, name)(*given)
            with FakeTensorMode() as mode:
                fakes = [mode.from_tensor(g) if isinstance(g, Tensor) else g for g in given]
                fake = getattr(OPS, name)(*fakes)
            assert (fake.shape, fake.dtype) == (real.shape, real.dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_products_are_gradients_of_one_trilinear_form(shape: tuple[int, int]) -> None:
    m, n = shape
    x, values, offsets, *_ = arguments("diagonal_linear", m, n, torch.float64, "reference")
    grad = arguments("diagonal_grad_x", m, n, torch.float64, "reference")[0]
    forward = (grad * OPS.diagonal_linear(x, values, offsets, None, m, "reference")).sum()
    by_x = (x * OPS.diagonal_grad_x(grad, values, offsets, n, "reference")).sum()
    by_values = (values * OPS.diagonal_grad_values(grad, x, offsets, "reference")).sum()
    torch.testing.assert_close(by_x, forward)
    torch.testing.assert_close(by_values, forward)


def test_the_backend_asked_for_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.get("dense"), "forward", lambda *_: torch.tensor(42.0))
    given: Any = arguments("diagonal_linear", 6, 6, torch.float32, "dense")[:-1]
    with torch.no_grad():
        calls: tuple[Callable[..., Tensor], ...] = (OPS.diagonal_linear, operators.linear)
        for call in calls:
            assert call(*given, "dense").item() == 42
            assert call(*given, "reference").shape == (2, 3, 6)


def test_auto_chooses_for_each_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for direction in ("forward", "grad_x", "grad_values"):
        for name in ("cpu", "dense", "reference"):
            real = getattr(kernels.get(name), direction)

            def spy(*args: Any, _real: Any = real, _direction: str = direction) -> Any:
                used.append(_direction)
                return _real(*args)

            monkeypatch.setattr(kernels.get(name), direction, spy)
    monkeypatch.delenv("DYNADIAG_BACKEND", raising=False)
    OPS.diagonal_linear(
        *arguments("diagonal_linear", 40, 30, torch.float32, "auto")
    ).sum().backward()
    assert used == ["forward", "grad_x", "grad_values"]
