from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dynadiag import functional, khot, selected_operators

OPS = torch.ops.dynadiag
SHAPES = [(6, 6), (7, 4), (4, 7)]
OFF, ON = torch.tensor(False), torch.tensor(True)
OFFSETS = torch.tensor([0, 2, 3])
CHOSEN = torch.tensor([True, False, True])
COUNT, HEAT = torch.tensor(2), torch.tensor(0.5)


def leaf(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


Leaves = tuple[Tensor, Tensor, Tensor, Tensor]


def leaves(m: int, n: int, dtype: torch.dtype = torch.float64) -> Leaves:
    """x, values, alpha and bias."""
    torch.manual_seed(0)
    x, values = leaf(2, 3, n, dtype=dtype), leaf(max(m, n), min(m, n), dtype=dtype)
    return x, values, leaf(max(m, n), dtype=dtype), leaf(m, dtype=dtype)


def eager(given: Leaves, flag: Tensor, m: int) -> Tensor:
    return selected_operators.selected_linear(
        *given, OFFSETS, CHOSEN, COUNT, HEAT, flag, m, "reference"
    )


def opaque(given: Leaves, flag: Tensor, m: int) -> Tensor:
    rows = given[1].detach()[OFFSETS] * CHOSEN.unsqueeze(1)
    y: Tensor = OPS.selected_linear(
        *given, rows, OFFSETS, CHOSEN, COUNT, HEAT, flag, m, "reference"
    )
    return y


def plain(given: Leaves, m: int) -> Tensor:
    x, values, alpha, bias = given
    weights = khot.straight_through(alpha, OFFSETS, CHOSEN, COUNT, HEAT)
    rows = values[OFFSETS] * weights.unsqueeze(1)
    return functional.diagonal_linear(x, rows, OFFSETS.int(), bias, out_features=m)


@pytest.mark.parametrize("flag", [OFF, ON], ids=str)
def test_opcheck(flag: Tensor) -> None:
    m, n = 7, 4
    given = leaves(m, n)
    x, values = (t.detach() for t in given[:2])
    rows = values[OFFSETS] * CHOSEN.unsqueeze(1)
    grad = torch.randn(2, 3, m, dtype=torch.float64)
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (
            OPS.selected_linear,
            (*given, rows, OFFSETS, CHOSEN, COUNT, HEAT, flag, m, "reference"),
        ),
        (OPS.selected_gradients, (grad, x, values, rows, OFFSETS, CHOSEN, flag, "reference")),
    ]
    for operator, arguments in calls:
        torch.library.opcheck(operator.default, arguments)


@pytest.mark.parametrize("call", [eager, opaque])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients_are_those_of_plain_products(
    shape: tuple[int, int], call: Any
) -> None:
    given = leaves(*shape)
    y, expected = call(given, OFF, shape[0]), plain(given, shape[0])
    torch.testing.assert_close(y, expected)
    upstream = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, given, upstream), torch.autograd.grad(expected, given, upstream)
    )


@pytest.mark.parametrize("call", [eager, opaque])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_dense_gradient_is_that_of_weight_1(shape: tuple[int, int], call: Any) -> None:
    m, n = shape
    given = leaves(m, n)
    upstream = torch.randn(2, 3, m, dtype=torch.float64)
    sparse, dense = (
        torch.autograd.grad(call(given, flag, m), given, upstream) for flag in (OFF, ON)
    )
    every = torch.arange(max(m, n), dtype=torch.int32)
    full = functional.diagonal_linear(given[0], given[1], every, out_features=m)
    (expected,) = torch.autograd.grad(full, given[1], upstream)
    torch.testing.assert_close(dense[1], expected)
    counts = torch.isin(torch.arange(max(m, n)), OFFSETS[CHOSEN])
    torch.testing.assert_close(sparse[1], expected * counts.unsqueeze(1))
    for place in (0, 2, 3):
        torch.testing.assert_close(sparse[place], dense[place])


@pytest.mark.parametrize("call", [eager, opaque])
def test_gradients_have_the_dtype_of_what_they_belong_to(call: Any) -> None:
    x, values, alpha, bias = leaves(7, 4, torch.float32)
    for flag in (OFF, ON):
        y = call((x.bfloat16(), values, alpha, bias.bfloat16()), flag, 7)
        assert y.dtype == torch.bfloat16
        gradients = torch.autograd.grad(y.sum(), (x, values, alpha, bias))
        assert {gradient.dtype for gradient in gradients} == {torch.float32}


@pytest.mark.parametrize("call", [eager, opaque])
def test_only_the_gradients_asked_for(call: Any) -> None:
    given = leaves(6, 6)
    for wanted in given:
        x, values, alpha, bias = (t if t is wanted else t.detach() for t in given)
        frozen = (x, values, alpha, bias)
        (ours,) = torch.autograd.grad(call(frozen, OFF, 6).square().sum(), wanted)
        (theirs,) = torch.autograd.grad(plain(frozen, 6).square().sum(), wanted)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("call", [eager, opaque])
def test_the_flag_is_read_by_the_backward_when_it_runs(call: Any) -> None:
    given, flag = leaves(6, 6), torch.tensor(False)
    y = call(given, flag, 6)
    flag.data.fill_(True)
    (grad,) = torch.autograd.grad(y.sum(), given[1])
    assert grad.any(1).all()


def test_the_opaque_operator_refuses_second_derivatives() -> None:
    given = leaves(6, 6)
    (grad,) = torch.autograd.grad(opaque(given, ON, 6).sum(), given[1], create_graph=True)
    with pytest.raises(NotImplementedError, match=r"no second derivatives; compact\(\)"):
        grad.sum().backward()
