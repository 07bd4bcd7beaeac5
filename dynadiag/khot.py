"""Sigmoids of (score - tau) / T that sum to k, and their gradient, as operators of torch.

tau has no closed form. On the CPU numpy iterates until it converges, in 50 us, and computes the
gradient along: torch's operators, at 3 us each when warm, made a training step of a 768 x 768 layer
a quarter slower. Elsewhere a fixed number of rounds finds tau without waiting for the device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_CUTS = 16
_LARGEST_SHARE = 1 - 1e-6  # of k in P: with every diagonal wanted no finite tau is right
_MOST_STEPS = 100
_LARGEST_EXPONENT = 700.0  # of a float64
_PRECISION = {torch.float32: 1e-7, torch.float64: 1e-14}  # of the mean of t

_Array = npt.NDArray[np.float64]

_library = torch.library.Library("dynadiag", "FRAGMENT")
_library.define("khot(Tensor scores, Tensor k, Tensor temperature) -> Tensor")
_library.define("khot_gradient(Tensor grad, Tensor scores, Tensor k, Tensor temperature) -> Tensor")
_library.define(
    "straight_through(Tensor scores, Tensor places, Tensor chosen, Tensor k, Tensor temperature) "
    "-> Tensor"
)


def wide(alpha: Tensor) -> Tensor:
    """Return alpha in the dtype it is computed with: float32, or float64 if that is what it is."""
    return alpha if alpha.dtype == torch.float64 else alpha.float()


def khot_weights(scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Return sigmoid((scores - tau) / T), (P,), with the tau that makes it sum to k.

    Differentiable once, in the scores: the gradient is slope · (grad - mean) / T, the mean weighted
    by the slopes of the sigmoids. tau moves with the scores, so a gradient shifts weight among them
    but none into or out of the sum.

    Args:
        scores: (P,) float32 or float64.
        k: 0-dim integer, 1 to P; for P the sum falls short by a millionth.
        temperature: T, 0-dim, positive.
    """
    weights: Tensor = torch.ops.dynadiag.khot(scores, k, temperature)
    return weights


def straight_through(
    scores: Tensor, places: Tensor, chosen: Tensor, k: Tensor, temperature: Tensor
) -> Tensor:
    """Return 1 where chosen and 0 elsewhere, with the gradient that `khot_weights` would have.

    Args:
        scores: (P,) float32 or float64.
        places: (n,) int64, which of the scores are asked about.
        chosen: (n,) bool; only the weights of those chosen hand their gradient on.
        k: as of `khot_weights`.
        temperature: as of `khot_weights`.

    Returns:
        (n,) in the dtype of the scores.
    """
    weights: Tensor = torch.ops.dynadiag.straight_through(scores, places, chosen, k, temperature)
    return weights


def khot_gradient(grad: Tensor, scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Return the gradient (P,) of the scores of `khot_weights`, given that of the weights.

    The operator without torch's dispatcher: for code that torch does not trace.
    """
    compute = _gradient_on_cpu if scores.device.type == "cpu" else _gradient
    return compute(grad, scores, k, temperature)


def _tanh_by_numpy(scores: Tensor, k: Tensor, temperature: Tensor) -> _Array:
    """Return t = 2 weights - 1 by Newton's steps, halving the interval where one would leave it.

    A sigmoid is (1 + tanh(z / 2)) / 2, its slope (1 - tanh²(z / 2)) / 4, so two sums over t are all
    a step needs. The mean of the sigmoids is k / P at tau: that lies between the smallest and the
    largest score, each less T logit(k / P).
    """
    # A copy: numpy fixes the size of memory it sees, which FSDP2 frees and allocates anew.
    halves: _Array = (scores.detach().double() / (2 * float(temperature))).numpy()
    count = len(halves)
    wanted = min(2 * int(k) / count, 2 * _LARGEST_SHARE) - 1  # the mean of t
    low, high = float(halves.min()) - math.atanh(wanted), float(halves.max()) - math.atanh(wanted)
    tau = (low + high) / 2
    for _ in range(_MOST_STEPS):
        t: _Array = np.tanh(halves - tau)
        excess = float(t.sum()) / count - wanted
        if abs(excess) <= _PRECISION[scores.dtype]:
            break
        low, high = (tau, high) if excess > 0 else (low, tau)
        slope = 1 - float(t @ t) / count
        tau = tau + excess / slope if slope > 0 else math.inf
        if not low < tau < high:
            tau = (low + high) / 2
    return t


def _weights(scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    """Find tau in rounds that each count how many cuts of its interval lie below it."""
    k, temperature = k.to(scores.dtype), temperature.to(scores.dtype)
    wanted = k.clamp(max=len(scores) * _LARGEST_SHARE)
    low = scores.min() - temperature * (wanted / len(scores)).logit()
    width = scores.max() - scores.min()
    steps = torch.arange(1, _CUTS, device=scores.device, dtype=scores.dtype)
    for _ in range(13 if scores.dtype == torch.float64 else 6):  # 4 bits a round
        width = width / _CUTS
        taus = low + width * steps
        sums = torch.sigmoid((scores - taus.unsqueeze(1)) / temperature).sum(1)
        low = low + width * (sums > wanted).sum()
    return torch.sigmoid((scores - (low + width / 2)) / temperature)


def _gradient(grad: Tensor, scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    weights = _weights(scores, k, temperature)
    slopes = weights * (1 - weights)
    total = slopes.sum().clamp(min=torch.finfo(slopes.dtype).tiny)  # all may underflow as T falls
    return slopes * (grad - torch.dot(slopes, grad) / total) / temperature


def _weights_on_cpu(scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    t = _tanh_by_numpy(scores, k, temperature)
    return torch.from_numpy(0.5 + 0.5 * t).to(scores.dtype)


def _gradient_on_cpu(grad: Tensor, scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    t, upstream = _tanh_by_numpy(scores, k, temperature), grad.detach().numpy()
    slopes = 1 - t * t  # four times those of the sigmoids
    mean = float(slopes @ upstream) / max(float(slopes.sum()), np.finfo(np.float64).tiny)
    result = slopes * (upstream - mean) / (4 * float(temperature))
    return torch.from_numpy(result).to(scores.dtype)


def _straight_through(
    scores: Tensor, places: Tensor, chosen: Tensor, k: Tensor, temperature: Tensor
) -> Tensor:
    return chosen.to(scores.dtype)


_library.impl("khot", _weights_on_cpu, "CPU")
_library.impl("khot", _weights, "CompositeExplicitAutograd")
_library.impl("khot_gradient", _gradient_on_cpu, "CPU")
_library.impl("khot_gradient", _gradient, "CompositeExplicitAutograd")
_library.impl("straight_through", _straight_through, "CompositeExplicitAutograd")


@torch.library.register_fake("dynadiag::khot", lib=_library)
def _(scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    return torch.empty_like(scores)


@torch.library.register_fake("dynadiag::khot_gradient", lib=_library)
def _(grad: Tensor, scores: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    return torch.empty_like(scores)


@torch.library.register_fake("dynadiag::straight_through", lib=_library)
def _(scores: Tensor, places: Tensor, chosen: Tensor, k: Tensor, temperature: Tensor) -> Tensor:
    return scores.new_empty(places.shape)


def _khot_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _khot_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return torch.ops.dynadiag.khot_gradient(grad, *ctx.saved_tensors), None, None


def _straight_through_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    scores, places, chosen, k, temperature = ctx.saved_tensors
    of_all = torch.zeros_like(scores).index_copy(0, places, grad * chosen)
    of_scores = torch.ops.dynadiag.khot_gradient(of_all, scores, k, temperature)
    return of_scores, None, None, None, None


def _nothing_kept(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """There is no second derivative to keep something for."""


def _no_second_derivatives(ctx: Any, direction: Tensor) -> tuple[Any, ...]:
    raise NotImplementedError(
        "the weights of selected diagonals have no second derivatives; freeze alpha with "
        "requires_grad_(False), or compact() the layer"
    )


for _name, _backward, _setup in (
    ("khot", _khot_backward, _khot_setup),
    ("straight_through", _straight_through_backward, _khot_setup),
    ("khot_gradient", _no_second_derivatives, _nothing_kept),
):
    torch.library.register_autograd(
        f"dynadiag::{_name}", _backward, setup_context=_setup, lib=_library
    )
