from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dynadiag.nn import dia_ust
from dynadiag.nn.dia_ust import DiaUstLinear


class Wrapped:
    """nvmath's tensor: a view of torch's."""

    def __init__(self, tensor: Tensor, form: str | None = None) -> None:
        self.tensor, self.form = tensor, form

    @classmethod
    def from_package(cls, tensor: Tensor) -> Wrapped:
        return cls(tensor)

    def convert(self, *, tensor_format: str) -> Wrapped:
        assert self.tensor.is_coalesced()
        return Wrapped(self.tensor.to_dense(), tensor_format)


class Matmul:
    """c := a b + beta c, planned before it is executed, and executed only with operands."""

    made = 0

    def __init__(self, a: Wrapped, b: Wrapped, c: Wrapped, *, beta: float) -> None:
        assert a.form == "DIAI"
        Matmul.made += 1
        self.operands: tuple[Wrapped, ...] | None = (a, b, c)
        self.beta, self.planned = beta, False

    def plan(self) -> None:
        self.planned = True

    def reset_operands_unchecked(self, *, a: Wrapped, b: Wrapped, c: Wrapped) -> None:
        self.operands = (a, b, c)

    def release_operands(self) -> None:
        self.operands = None

    def execute(self) -> None:
        assert self.planned
        assert self.operands is not None
        a, b, c = (operand.tensor for operand in self.operands)
        c.mul_(self.beta).add_(a @ b)


@pytest.fixture
def nvmath(monkeypatch: pytest.MonkeyPatch) -> None:
    ust = SimpleNamespace(Tensor=Wrapped, NamedFormats=SimpleNamespace(DIAI="DIAI"))
    monkeypatch.setattr(dia_ust, "_library", lambda: (SimpleNamespace(Matmul=Matmul), ust))
    monkeypatch.setattr(DiaUstLinear, "why_not", classmethod(lambda *_, **__: None))
    Matmul.made = 0


@pytest.mark.usefixtures("nvmath")
@pytest.mark.parametrize("sizes", [(12, 8), (8, 12), (10, 10)])
def test_product_equals_dense(sizes: tuple[int, int]) -> None:
    layer = DiaUstLinear(*sizes, num_diagonals=3)
    x = torch.randn(2, 5, sizes[0])
    with torch.no_grad():
        first, second = layer(x), layer(2 * x)
        torch.testing.assert_close(first, torch.nn.functional.linear(x, layer.weight, layer.bias))
        torch.testing.assert_close(
            second, torch.nn.functional.linear(2 * x, layer.weight, layer.bias)
        )
    assert Matmul.made == 1


@pytest.mark.usefixtures("nvmath")
def test_it_follows_weights_pattern_and_batch() -> None:
    layer, other = DiaUstLinear(8, 8, num_diagonals=3), DiaUstLinear(8, 8, num_diagonals=3)
    x = torch.randn(4, 8)
    with torch.no_grad():
        layer(x)
        layer(torch.randn(3, 8))
        layer.values.mul_(2)
        torch.testing.assert_close(
            layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias)
        )
        layer.load_state_dict(other.state_dict())
        torch.testing.assert_close(layer(x), other(x))


@pytest.mark.usefixtures("nvmath")
def test_gradients_are_refused() -> None:
    layer = DiaUstLinear(8, 8, num_diagonals=3)
    with pytest.raises(RuntimeError, match="no gradients"):
        layer(torch.randn(2, 8))


@pytest.mark.usefixtures("nvmath")
def test_a_call_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Any) -> None:
        raise TypeError("no kernel")

    monkeypatch.setattr(Matmul, "plan", failing)
    layer = DiaUstLinear(8, 8, num_diagonals=3)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"nvmath.s DIA product failed.*kernel"):
        layer(torch.randn(2, 8))


@pytest.mark.parametrize(
    ("device", "dtype", "reason"),
    [("cpu", torch.float32, "not on cpu"), ("cuda", torch.int8, "not int8")],
)
def test_why_not(device: str, dtype: torch.dtype, reason: str) -> None:
    assert reason in str(DiaUstLinear.why_not(8, 8, 0.5, dtype, device=device))


def test_without_nvmath_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setattr(dia_ust, "_library", dia_ust._library.__wrapped__)
    monkeypatch.setattr(dia_ust, "_missing", dia_ust._missing.__wrapped__)
    why = DiaUstLinear.why_not(8, 8, 0.5, torch.float32, device="cuda")
    assert why is not None
    assert "pip install 'nvmath-python>=1.0'" in why


def test_on_the_cpu_the_layer_says_why_not() -> None:
    layer = DiaUstLinear(8, 8, num_diagonals=3)
    with torch.no_grad(), pytest.raises(RuntimeError, match="runs on cuda, not on cpu"):
        layer(torch.randn(2, 8))
    assert layer.config == "nvmath UST DIAI num_diagonals=3"
