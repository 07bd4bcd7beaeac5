"""The cpu backend's one operator for layers that learn their diagonals, against Python's way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynadiag import kernels
from dynadiag.nn import DynamicDiagonalLinear
from dynadiag.nn.selection_weights import largest_first
from dynadiag.selected_operators import one_operator, selected_linear

pytestmark = pytest.mark.skipif(
    kernels.backends()["cpu"] is not None, reason="the cpu kernels cannot be compiled here"
)
Leaves = tuple[Tensor, Tensor, Tensor, Tensor]


def leaves(m: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Leaves:
    """x, values, alpha and bias."""
    draw = torch.Generator().manual_seed(seed)
    longer, shorter = max(m, n), min(m, n)
    shapes = ((2, 3, n), (longer, shorter), (longer,), (m,))
    x, values, alpha, bias = (
        torch.randn(*shape, generator=draw, dtype=dtype).requires_grad_() for shape in shapes
    )
    return x, values, alpha, bias


def by_one(
    given: Leaves, k: int, most: int, m: int, flag: bool = False, heat: float = 0.5
) -> Tensor:
    x, values, alpha, bias = given
    operator = one_operator(x, values, alpha, most, m, "cpu")
    assert operator is not None
    return operator(x, values, alpha, bias, torch.tensor(flag), k, most, heat, m)


def by_parts(
    given: Leaves, k: int, most: int, m: int, flag: bool = False, heat: float = 0.5
) -> Tensor:
    x, values, alpha, bias = given
    count = torch.tensor(k)
    selection = largest_first(alpha, count, most)
    about = (count, torch.tensor(heat), torch.tensor(flag))
    return selected_linear(x, values, alpha, bias, *selection, *about, m, "cpu")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 99), st.data())
def test_output_and_gradients_are_those_of_the_parts(
    m: int, n: int, flag: bool, seed: int, data: st.DataObject
) -> None:
    most = data.draw(st.integers(1, max(m, n)))
    k = data.draw(st.integers(1, most))
    operands = leaves(m, n, seed)
    ours, theirs = (way(operands, k, most, m, flag) for way in (by_one, by_parts))
    assert torch.equal(ours, theirs)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        torch.autograd.grad(ours, operands, upstream),
        torch.autograd.grad(theirs, operands, upstream),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("flag", [False, True])
def test_diagonals_not_selected_get_a_gradient_only_on_demand(flag: bool) -> None:
    operands = leaves(9, 5)
    (grad,) = torch.autograd.grad(by_one(operands, 2, 4, 9, flag).sum(), operands[1])
    selected = torch.zeros(9, dtype=torch.bool)
    selected[operands[2].argsort(descending=True)[:2]] = True
    assert grad[selected].any(1).all()
    assert grad[~selected].any(1).all() == flag
    assert grad[~selected].any() == flag


@pytest.mark.parametrize(
    "alpha",
    [
        [0.0, 0.0, 0.0, 0.0],
        [0.0, -0.0, 1.0, -0.0],
        [float("nan"), 1.0, float("inf"), float("nan")],
        [float("-inf"), 1.0, 1.0, float("-inf")],
    ],
    ids=str,
)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_ranks_are_those_of_a_stable_sort(alpha: list[float], k: int) -> None:
    x, values, _, bias = leaves(4, 4)
    operands = (x, values, torch.tensor(alpha), bias)
    assert torch.equal(by_one(operands, k, 4, 4), by_parts(operands, k, 4, 4))


@pytest.mark.parametrize("heat", [1e-3, 0.05, 1.0, 50.0])
@pytest.mark.parametrize("k", [1, 7, 63, 64])
def test_alpha_learns_the_same_at_any_temperature(heat: float, k: int) -> None:
    operands = leaves(64, 32)
    ours, theirs = (
        torch.autograd.grad(way(operands, k, k, 64, heat=heat).square().sum(), operands[2])[0]
        for way in (by_one, by_parts)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("place", range(4))
def test_only_the_gradients_asked_for(place: int) -> None:
    operands = leaves(6, 6)
    x, values, alpha, bias = (t if i == place else t.detach() for i, t in enumerate(operands))
    ours, theirs = (
        torch.autograd.grad(way((x, values, alpha, bias), 2, 3, 6).sum(), operands[place])[0]
        for way in (by_one, by_parts)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_bias_and_without_gradients() -> None:
    layer = DynamicDiagonalLinear(4, 6, False, num_diagonals=2, backend="cpu")
    x = torch.randn(3, 4)
    expected = (x.double() @ layer.weight.double().T).float()
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), expected)


def test_the_flag_is_read_by_the_backward_when_it_runs() -> None:
    layer = DynamicDiagonalLinear(8, 8, num_diagonals=2, backend="cpu")
    y = layer(torch.randn(3, 8))
    layer.set_dense_gradient(True)
    y.sum().backward()
    assert layer.values.grad is not None
    assert layer.values.grad.any(1).all()


def test_second_derivatives_are_refused() -> None:
    operands = leaves(6, 6)
    (grad,) = torch.autograd.grad(
        by_one(operands, 2, 2, 6).square().sum(), operands[1], create_graph=True
    )
    with pytest.raises(RuntimeError, match=r"no second derivatives; compact\(\)"):
        grad.sum().backward()


def test_gradients_have_the_dtype_of_what_they_belong_to() -> None:
    x, values, alpha, bias = leaves(7, 4)
    mixed = (x.bfloat16(), values, alpha, bias.bfloat16())
    ours, theirs = (way(mixed, 2, 3, 7) for way in (by_one, by_parts))
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)
    gradients = torch.autograd.grad(ours.sum(), (x, values, alpha, bias))
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_it_serves_only_where_nothing_watches_and_one_backend_does_all() -> None:
    x, values, alpha, _ = leaves(6, 6)
    assert one_operator(x, values, alpha, 2, 6, "cpu") is not None
    assert one_operator(x, values, alpha, 2, 6, "reference") is None
    assert one_operator(x.double(), values.double(), alpha, 2, 6, "auto") is None
    assert one_operator(x.to("meta"), values.to("meta"), alpha, 2, 6, "reference") is None
