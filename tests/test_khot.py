from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadiag import khot

OPS = torch.ops.dynadiag
SCALES = [0.01, 1.0, 30.0]
TEMPERATURES = [5.0, 1.0, 0.05, 0.001]


def scores(scale: float, dtype: torch.dtype, count: int = 200) -> Tensor:
    torch.manual_seed(0)
    return scale * torch.randn(count, dtype=dtype)


@pytest.mark.parametrize("find", [khot._weights, khot._weights_on_cpu])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_weights_are_sigmoids_that_sum_to_k(
    find: Callable[..., Tensor], dtype: torch.dtype, scale: float, temperature: float
) -> None:
    given = scores(scale, dtype)
    for k in (1, 20, 199):
        weights = find(given, torch.tensor(k), torch.tensor(temperature))
        assert weights.dtype == dtype
        assert float(weights.sum()) == pytest.approx(
            k, rel=1e-4 * max(1, scale / temperature / 1e4)
        )
        logits = weights.double().clamp(1e-12, 1 - 1e-12).logit()
        inside = (weights > 1e-3) & (weights < 1 - 1e-3)
        taus = (given.double() - temperature * logits)[inside]
        if inside.any():
            assert float(taus.max() - taus.min()) < 1e-3 * max(temperature, scale * 1e-3)


def test_every_one_wanted_gives_ones() -> None:
    for find in (khot._weights, khot._weights_on_cpu):
        weights = find(scores(1, torch.float32), torch.tensor(200), torch.tensor(0.1))
        torch.testing.assert_close(weights, torch.ones(200), rtol=0, atol=1e-3)


def test_one_score_and_equal_scores() -> None:
    for find in (khot._weights, khot._weights_on_cpu):
        one = find(torch.tensor([3.0]), torch.tensor(1), torch.tensor(0.5))
        torch.testing.assert_close(one, torch.ones(1))
        equal = find(torch.full((8,), 0.125), torch.tensor(2), torch.tensor(0.5))
        torch.testing.assert_close(equal, torch.full((8,), 0.25))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_both_gradients_agree_with_numerical_differences(temperature: float) -> None:
    given, k = scores(0.1, torch.float64, 30), torch.tensor(7)
    heat, grad = torch.tensor(temperature), torch.randn(30, dtype=torch.float64)
    step = 1e-6 * temperature
    shifts = step * torch.eye(30, dtype=torch.float64)
    expected = torch.stack(
        [
            grad @ (OPS.khot(given + shift, k, heat) - OPS.khot(given - shift, k, heat))
            for shift in shifts
        ]
    ) / (2 * step)
    for find in (khot._gradient, khot._gradient_on_cpu):
        torch.testing.assert_close(find(grad, given, k, heat), expected, rtol=1e-4, atol=1e-4)


def test_a_gradient_moves_nothing_into_or_out_of_the_sum() -> None:
    given, k, heat = scores(0.1, torch.float32), torch.tensor(20), torch.tensor(0.1)
    gradient = OPS.khot_gradient(torch.randn(200), given, k, heat)
    assert float(gradient.sum().abs()) < 1e-5 * float(gradient.abs().sum())
    equal = OPS.khot_gradient(torch.ones(200), given, k, heat)
    assert float(equal.abs().max()) < 1e-5


def test_gradients_stay_finite_where_all_slopes_vanish() -> None:
    given = torch.tensor([1e4, 2e4, -1e4, -2e4])
    for find in (khot._gradient, khot._gradient_on_cpu):
        gradient = find(torch.randn(4), given, torch.tensor(2), torch.tensor(1e-3))
        assert gradient.isfinite().all()


def test_straight_through_is_exact_forward_and_khot_backward() -> None:
    given, k, heat = scores(0.1, torch.float32), torch.tensor(20), torch.tensor(0.1)
    places, chosen = torch.tensor([3, 50, 120]), torch.tensor([True, False, True])
    leaf, upstream = given.requires_grad_(), torch.randn(3)
    weights = khot.straight_through(leaf, places, chosen, k, heat)
    assert weights.tolist() == [1, 0, 1]
    (ours,) = torch.autograd.grad(weights, leaf, upstream)
    soft = khot.khot_weights(leaf, k, heat)[places]
    (theirs,) = torch.autograd.grad(soft, leaf, upstream * chosen)
    torch.testing.assert_close(ours, theirs)


def test_no_second_derivatives() -> None:
    given, k, heat = scores(0.1, torch.float32).requires_grad_(), torch.tensor(20), torch.ones(())
    weights = khot.khot_weights(given, k, heat)
    (gradient,) = torch.autograd.grad(weights.square().sum(), given, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        gradient.sum().backward()


def test_opcheck() -> None:
    given, k, heat = scores(0.1, torch.float32, 9), torch.tensor(3), torch.tensor(0.1)
    leaf, places = given.requires_grad_(), torch.tensor([1, 4])
    torch.library.opcheck(OPS.khot.default, (leaf, k, heat))
    torch.library.opcheck(OPS.khot_gradient.default, (torch.randn(9), given.detach(), k, heat))
    torch.library.opcheck(
        OPS.straight_through.default, (leaf, places, torch.tensor([True, False]), k, heat)
    )
