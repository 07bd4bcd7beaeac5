"""torch.ops.dynadiag.selected_linear: a product with some diagonals, gradients of some or of all.

Where a layer learns which inactive diagonals to grow, a backward now and then computes gradients of
all of them. The switch is a 0-dim bool tensor on the CPU that only the backward looks into: a
compiled graph holds one call for both cases.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from . import khot, operators
from .kernels.registry import DIRECTIONS

_library = torch.library.Library("dynadiag", "FRAGMENT")
_library.define(
    "selected_linear(Tensor x, Tensor values, Tensor alpha, Tensor? bias, Tensor rows, "
    "Tensor offsets, Tensor chosen, Tensor k, Tensor temperature, Tensor dense_gradient, "
    "int out_features, str backend) -> Tensor"
)
_library.define(
    "selected_gradients(Tensor grad, Tensor x, Tensor values, Tensor rows, Tensor offsets, "
    "Tensor chosen, Tensor dense_gradient, str backend) -> (Tensor, Tensor)"
)


def one_operator(
    x: Tensor, values: Tensor, alpha: Tensor, k: int, out_features: int, backend: str
) -> Callable[..., Tensor] | None:
    """Return the operator of a backend that ranks, multiplies and differentiates at once, or None.

    Only where torch neither traces nor wraps the operands, and where one backend that has it
    computes all three products.

    Args:
        x: (..., in_features).
        values: (P, D).
        alpha: (P,).
        k: how many diagonals are computed.
        out_features: M.
        backend: what was asked for.
    """
    if not (operators.is_plain(x, values) and operators.is_plain(x, alpha)):
        return None
    if forward_ad._current_level >= 0:
        return None
    sizes = (k, out_features, x.shape[-1])
    forward, *others = (
        operators.chosen_backend(backend, direction, x, *sizes) for direction in DIRECTIONS
    )
    return forward.selected if all(other is forward for other in others) else None


def selected_linear(
    x: Tensor,
    values: Tensor,
    alpha: Tensor,
    bias: Tensor | None,
    offsets: Tensor,
    chosen: Tensor,
    k: Tensor,
    temperature: Tensor,
    dense_gradient: Tensor,
    out_features: int,
    backend: str,
) -> Tensor:
    """Return x Wᵀ + b for the W made of some of the candidate diagonals.

    Differentiable once: in x, values and bias, and straight-through in alpha, whose weights are 1
    for the diagonals chosen and 0 for the rest (see `khot.straight_through`).

    Args:
        x: (..., in_features).
        values: (P, D), row s the diagonal at offset s; of any floating dtype.
        alpha: (P,).
        bias: (out_features,) in the dtype of x, or None.
        offsets: (n,) int64, distinct: the diagonals to compute.
        chosen: (n,) bool, which of those count.
        k: 0-dim integer, how many are chosen.
        temperature: 0-dim, of the gradient of alpha.
        dense_gradient: 0-dim bool on the CPU; if true when the backward runs, diagonals that are
            not chosen have a gradient too, as if their weight were 1.
        out_features: M, the rows of W.
        backend: what computes the products.

    Returns:
        (..., out_features), in the dtype of x.
    """
    rows = values.detach().index_select(0, offsets).mul_(chosen.unsqueeze(1))
    given = (
        *(x, values, alpha, bias, rows, offsets, chosen, k, temperature, dense_gradient),
        *(out_features, backend),
    )
    if torch.compiler.is_compiling():
        y: Tensor = torch.ops.dynadiag.selected_linear(*given)
        return y
    y = _Selected.apply(*given)
    return y


def _selected_linear(
    x: Tensor,
    values: Tensor,
    alpha: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    offsets: Tensor,
    chosen: Tensor,
    k: Tensor,
    temperature: Tensor,
    dense_gradient: Tensor,
    out_features: int,
    backend: str,
) -> Tensor:
    return operators.linear(x, rows.to(x.dtype), offsets.int(), bias, out_features, backend)


def _selected_gradients(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    rows: Tensor,
    offsets: Tensor,
    chosen: Tensor,
    dense_gradient: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of values (P, D) and of the weights of the diagonals chosen (n,)."""
    if dense_gradient:
        every = torch.arange(len(values), device=offsets.device, dtype=torch.int32)
        grad_values = operators._grad_values(grad, x, every, backend).to(values.dtype)
        return grad_values, torch.linalg.vecdot(grad_values.index_select(0, offsets), rows)
    sums = operators._grad_values(grad, x, offsets.int(), backend).to(values.dtype)
    along = torch.linalg.vecdot(sums, rows)
    grad_values = torch.zeros_like(values)
    return grad_values.index_copy_(0, offsets, sums.mul_(chosen.unsqueeze(1))), along


_library.impl("selected_linear", _selected_linear, "CompositeExplicitAutograd")
_library.impl("selected_gradients", _selected_gradients, "CompositeExplicitAutograd")


@torch.library.register_fake("dynadiag::selected_linear", lib=_library)
def _(
    x: Tensor,
    values: Tensor,
    alpha: Tensor,
    bias: Any,
    rows: Tensor,
    offsets: Tensor,
    chosen: Tensor,
    k: Tensor,
    temperature: Tensor,
    dense_gradient: Tensor,
    out_features: int,
    backend: str,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], out_features))


@torch.library.register_fake("dynadiag::selected_gradients", lib=_library)
def _(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    rows: Tensor,
    offsets: Tensor,
    chosen: Tensor,
    dense_gradient: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(values), rows.new_empty(rows.shape[0])


def _selected_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, values, alpha, bias, *selected, _, ctx.backend = inputs
    ctx.save_for_backward(x, values, alpha, *selected)
    ctx.has_bias = bias is not None


def _selected_backward(ctx: Any, grad: Tensor, ops: Any = torch.ops.dynadiag) -> tuple[Any, ...]:
    x, values, alpha, rows, offsets, chosen, k, temperature, dense_gradient = ctx.saved_tensors
    needs_x, needs_values, needs_alpha, needs_bias, *_ = ctx.needs_input_grad
    grad_x = grad_values = grad_alpha = grad_bias = None
    if needs_x:
        like_x = rows.to(x.dtype)
        grad_x = ops.diagonal_grad_x(grad, like_x, offsets.int(), x.shape[-1], ctx.backend)
    if needs_values or needs_alpha:
        grad_values, along = ops.selected_gradients(
            grad, x, values, rows, offsets, chosen, dense_gradient, ctx.backend
        )
    if needs_alpha:
        scores = khot.wide(alpha)
        of_all = torch.zeros_like(scores).index_copy(0, offsets, along.to(scores.dtype))
        grad_alpha = ops.khot_gradient(of_all, scores, k, temperature).to(alpha.dtype)
    if ctx.has_bias and needs_bias:
        grad_bias = grad.reshape(-1, grad.shape[-1]).sum(0)
    return grad_x, grad_values, grad_alpha, grad_bias, *[None] * 8


class _Selected(torch.autograd.Function):
    """What `selected_linear` is while nothing is compiled.

    One node of autograd and no dispatcher: of a step of a 768 x 768 layer at batch 197, torch's
    operators took a quarter.
    """

    direct = SimpleNamespace(
        diagonal_grad_x=operators._grad_x,
        selected_gradients=_selected_gradients,
        khot_gradient=khot.khot_gradient,
    )

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Return the product."""
        _selected_setup(ctx, inputs, None)
        return _selected_linear(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        """Return the gradients of the inputs that need one."""
        return _selected_backward(ctx, grad, _Selected.direct)


def _nothing_kept(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """There is no second derivative to keep something for."""


def _no_second_derivatives(ctx: Any, *directions: Tensor) -> tuple[Any, ...]:
    raise NotImplementedError(
        "selected diagonals have no second derivatives; compact() the layer for those"
    )


for _name, _backward, _setup in (
    ("selected_linear", _selected_backward, _selected_setup),
    ("selected_gradients", _no_second_derivatives, _nothing_kept),
):
    torch.library.register_autograd(
        f"dynadiag::{_name}", _backward, setup_context=_setup, lib=_library
    )
