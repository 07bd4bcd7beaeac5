from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynadiag.nn import selection_weights
from dynadiag.nn.selection_weights import SELECTIONS, hard_topk, khot, largest_first, soft_topk

ONE = torch.ones(())


def drawn(count: int = 100, scale: float = 0.1, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(0)
    return (scale * torch.randn(count, dtype=dtype)).requires_grad_()


def heat(temperature: float) -> Tensor:
    return torch.tensor(temperature)


@pytest.mark.parametrize("temperature", [5.0, 0.5, 0.05, 0.001])
def test_soft_topk_is_the_formula_of_the_paper(temperature: float) -> None:
    alpha = drawn().detach()
    exponentials = ((alpha.double() - alpha.max()) / temperature).exp()
    expected = (10 * exponentials / exponentials.sum()).clamp(max=1)
    weights = soft_topk(alpha, torch.tensor(10), heat(temperature))
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-6)


def test_soft_topk_sums_to_k_until_it_clips_and_falls_to_one_diagonal() -> None:
    alpha, k = drawn().detach(), torch.tensor(10)
    torch.testing.assert_close(soft_topk(alpha, k, heat(5)).sum(), torch.tensor(10.0))
    assert float(soft_topk(alpha, k, heat(0.02)).sum()) < 9
    assert int((soft_topk(alpha, k, heat(0.0002)) > 0.01).sum()) == 1


def test_soft_topk_starts_equal() -> None:
    weights = soft_topk(torch.full((50,), 1 / 50), torch.tensor(5), ONE)
    torch.testing.assert_close(weights, torch.full((50,), 0.1))


@pytest.mark.parametrize("temperature", [5.0, 0.1, 0.001])
def test_khot_sums_to_k_and_tends_to_k_ones(temperature: float) -> None:
    alpha = drawn()
    weights = khot(alpha, torch.tensor(10), heat(temperature))
    assert float(weights.detach().sum()) == pytest.approx(10, rel=1e-4)
    if temperature == 0.001:
        torch.testing.assert_close(
            weights, hard_topk(alpha, torch.tensor(10), ONE), rtol=0, atol=0.05
        )


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("temperature", [2.0, 0.05, 0.001])
def test_weights_lie_in_0_to_1_and_rise_with_alpha(name: str, temperature: float) -> None:
    alpha = drawn()
    weights = SELECTIONS[name](alpha, torch.tensor(10), heat(temperature)).detach()
    assert weights.dtype == torch.float32
    assert 0 <= float(weights.min()) <= float(weights.max()) <= 1
    assert (weights[alpha.argsort()].diff() >= 0).all()


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("scale", [0.0, 0.1, 100.0])
def test_gradients_are_finite_at_low_temperature(name: str, scale: float) -> None:
    alpha = drawn(scale=scale)
    weights = SELECTIONS[name](alpha, torch.tensor(10), heat(0.001))
    weights.backward(torch.randn(100))
    assert alpha.grad is not None
    assert alpha.grad.isfinite().all()


@pytest.mark.parametrize("name", ["soft_topk", "khot"])
def test_gradcheck(name: str) -> None:
    alpha, k = drawn(12, dtype=torch.float64), torch.tensor(3)
    for temperature in (1.0, 0.1):
        assert torch.autograd.gradcheck(
            lambda given, at=temperature: SELECTIONS[name](given, k, heat(at)), (alpha,)
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_hard_topk_is_exactly_k_ones(dtype: torch.dtype) -> None:
    alpha = drawn(dtype=dtype)
    for k in (1, 7, 100):
        weights = hard_topk(alpha, torch.tensor(k), ONE)
        assert int((weights == 1).sum()) == k
        assert int((weights == 0).sum()) == 100 - k


def test_ties_go_by_index() -> None:
    alpha = torch.tensor([0.0, 1.0, 1.0, 2.0, 1.0])
    assert hard_topk(alpha, torch.tensor(3), ONE).tolist() == [0, 1, 1, 1, 0]
    assert hard_topk(torch.zeros(300), torch.tensor(9), ONE).nonzero()[:, 0].tolist() == [*range(9)]


def test_hard_topk_hands_on_the_gradient_of_khot_from_those_selected() -> None:
    alpha, k = drawn(), torch.tensor(10)
    upstream = torch.randn(100)
    chosen = hard_topk(alpha, k, heat(0.1))
    (ours,) = torch.autograd.grad(chosen, alpha, upstream)
    (theirs,) = torch.autograd.grad(khot(alpha, k, heat(0.1)), alpha, upstream * chosen.detach())
    assert torch.equal(ours, theirs)
    assert int((ours != 0).sum()) > 10


def test_more_may_be_computed_than_count() -> None:
    alpha = drawn()
    offsets, chosen = largest_first(alpha, torch.tensor(4), 9)
    order = alpha.argsort(descending=True)
    assert offsets.tolist() == sorted(order[:9].tolist())
    assert offsets[chosen].tolist() == sorted(order[:4].tolist())


def test_unknown_selection() -> None:
    with pytest.raises(ValueError, match="unknown selection 'best'; known are hard_topk, khot"):
        selection_weights.check_selection("best")
