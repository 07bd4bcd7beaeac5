"""torch.ops.dynadiag.*: the diagonal operators with fake tensors and gradients of any order.

The public functions, which check their input, are in `functional.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import geometry, kernels
from .kernels.activation import activate

_PLAIN = (Tensor, torch.nn.Parameter)

_library = torch.library.Library("dynadiag", "DEF")
_library.define(
    "diagonal_linear(Tensor x, Tensor values, Tensor offsets, Tensor? bias, int out_features, "
    "str backend) -> Tensor"
)
_library.define(
    "diagonal_grad_x(Tensor grad, Tensor values, Tensor offsets, int in_features, str backend) "
    "-> Tensor"
)
_library.define(
    "diagonal_grad_values(Tensor grad, Tensor x, Tensor offsets, str backend) -> Tensor"
)
_library.define(
    "diagonal_to_dense(Tensor values, Tensor offsets, int out_features, int in_features) -> Tensor"
)
_library.define("dense_to_diagonal(Tensor weight, Tensor offsets) -> Tensor")


def chosen_backend(
    name: str, direction: str, operand: Tensor, k: int, m: int, n: int
) -> kernels.Backend:
    """Return what computes one product of a layer of K diagonals, M outputs and N inputs.

    Args:
        name: what was asked for.
        direction: `forward`, `grad_x` or `grad_values`.
        operand: (..., features), of the batch, device and dtype of the product.
        k: K.
        m: M.
        n: N.
    """
    batch = operand.numel() // operand.shape[-1]
    return kernels.choose(
        name, direction, operand.device.type, operand.dtype, m, n, k, batch, torch.get_num_threads()
    )


def is_plain(x: Tensor, values: Tensor) -> bool:
    """Return whether nothing watches the operands: no tracing, no tensor subclass."""
    if torch.compiler.is_compiling() or x.is_meta:
        return False
    return type(x) in _PLAIN and type(values) in _PLAIN


def _needs_gradients(x: Tensor, values: Tensor, bias: Tensor | None) -> bool:
    return torch.is_grad_enabled() and (
        x.requires_grad or values.requires_grad or (bias is not None and bias.requires_grad)
    )


def _refuse_tangents(*operands: Tensor | None) -> None:
    """Raise NotImplementedError in forward mode, where torch would drop the tangents in silence."""
    for operand in operands:
        if operand is not None and forward_ad.unpack_dual(operand).tangent is not None:
            raise NotImplementedError(
                "the diagonal operators have no forward-mode derivatives; use reverse mode"
            )


def linear(
    x: Tensor,
    values: Tensor,
    offsets: Tensor,
    bias: Tensor | None,
    out_features: int,
    backend: str,
    activation: str | None = None,
) -> Tensor:
    """Return f(x Wᵀ + b) for operands that are known to fit each other.

    The activation f is part of the product where nothing needs gradients: these ask for the sums
    before it.
    """
    if forward_ad._current_level >= 0:
        _refuse_tangents(x, values, bias)
    if is_plain(x, values):  # saves trips through Python's dispatcher: 8 us, of a step 100 us
        name, sizes = backend, (values.shape[0], out_features, x.shape[-1])
        chosen = chosen_backend(name, "forward", x, *sizes)
        if not _needs_gradients(x, values, bias):
            return chosen.forward(x, values, offsets, bias, out_features, activation)
        if (
            chosen.differentiable
            and chosen is chosen_backend(name, "grad_x", x, *sizes)
            and chosen is chosen_backend(name, "grad_values", x, *sizes)
        ):
            return activate(chosen.forward(x, values, offsets, bias, out_features), activation)
    y: Tensor = torch.ops.dynadiag.diagonal_linear(x, values, offsets, bias, out_features, backend)
    return activate(y, activation)


def _forward(
    x: Tensor, values: Tensor, offsets: Tensor, bias: Tensor | None, out_features: int, backend: str
) -> Tensor:
    chosen = chosen_backend(backend, "forward", x, values.shape[0], out_features, x.shape[-1])
    return chosen.forward(x, values, offsets, bias, out_features)


def _grad_x(
    grad: Tensor, values: Tensor, offsets: Tensor, in_features: int, backend: str
) -> Tensor:
    chosen = chosen_backend(backend, "grad_x", grad, len(offsets), grad.shape[-1], in_features)
    return chosen.grad_x(grad, values, offsets, in_features)


def _grad_values(grad: Tensor, x: Tensor, offsets: Tensor, backend: str) -> Tensor:
    chosen = chosen_backend(backend, "grad_values", grad, len(offsets), grad.shape[-1], x.shape[-1])
    return chosen.grad_values(grad, x, offsets)


def _to_dense(values: Tensor, offsets: Tensor, out_features: int, in_features: int) -> Tensor:
    rows, columns = geometry.cells(offsets, out_features, in_features)
    weight = values.new_zeros(out_features, in_features)
    weight[rows, columns] = values
    return weight


def _to_diagonal(weight: Tensor, offsets: Tensor) -> Tensor:
    rows, columns = geometry.cells(offsets, weight.shape[0], weight.shape[1])
    return weight[rows, columns]


_implementations = {
    "diagonal_linear": _forward,
    "diagonal_grad_x": _grad_x,
    "diagonal_grad_values": _grad_values,
    "diagonal_to_dense": _to_dense,
    "dense_to_diagonal": _to_diagonal,
}
for _name, _implementation in _implementations.items():
    _library.impl(_name, _implementation, "CompositeExplicitAutograd")


@torch.library.register_fake("dynadiag::diagonal_linear", lib=_library)
def _(
    x: Tensor, values: Tensor, offsets: Tensor, bias: Any, out_features: int, backend: str
) -> Tensor:
    return x.new_empty((*x.shape[:-1], out_features))


@torch.library.register_fake("dynadiag::diagonal_grad_x", lib=_library)
def _(grad: Tensor, values: Tensor, offsets: Tensor, in_features: int, backend: str) -> Tensor:
    return grad.new_empty((*grad.shape[:-1], in_features))


@torch.library.register_fake("dynadiag::diagonal_grad_values", lib=_library)
def _(grad: Tensor, x: Tensor, offsets: Tensor, backend: str) -> Tensor:
    return x.new_empty((offsets.shape[0], min(grad.shape[-1], x.shape[-1])))


@torch.library.register_fake("dynadiag::diagonal_to_dense", lib=_library)
def _(values: Tensor, offsets: Tensor, out_features: int, in_features: int) -> Tensor:
    return values.new_empty((out_features, in_features))


@torch.library.register_fake("dynadiag::dense_to_diagonal", lib=_library)
def _(weight: Tensor, offsets: Tensor) -> Tensor:
    return weight.new_empty((offsets.shape[0], min(weight.shape)))


# The three products are the three gradients of the trilinear form
# sum_b,k,t values[k, t] x[b, column(k, t)] grad[b, row(k, t)], so each is differentiated by the
# other two (arXiv 2506.11449, appendix A).


def _linear_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, offsets, bias, _, ctx.backend = inputs
    ctx.save_for_backward(x, values, offsets)
    ctx.has_bias = bias is not None


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, values, offsets = ctx.saved_tensors
    needs_x, needs_values, _, needs_bias, *_ = ctx.needs_input_grad
    ops = torch.ops.dynadiag
    grad_x = grad_values = grad_bias = None
    if needs_x:
        grad_x = ops.diagonal_grad_x(grad, values, offsets, x.shape[-1], ctx.backend)
    if needs_values:
        grad_values = ops.diagonal_grad_values(grad, x, offsets, ctx.backend)
    if ctx.has_bias and needs_bias:
        grad_bias = grad.reshape(-1, grad.shape[-1]).sum(0)
    return grad_x, grad_values, None, grad_bias, None, None


def _grad_x_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, values, offsets, _, ctx.backend = inputs
    ctx.save_for_backward(grad, values, offsets)


def _grad_x_backward(ctx: Any, direction: Tensor) -> tuple[Any, ...]:
    grad, values, offsets = ctx.saved_tensors
    ops = torch.ops.dynadiag
    to_grad = to_values = None
    if ctx.needs_input_grad[0]:
        to_grad = ops.diagonal_linear(direction, values, offsets, None, grad.shape[-1], ctx.backend)
    if ctx.needs_input_grad[1]:
        to_values = ops.diagonal_grad_values(grad, direction, offsets, ctx.backend)
    return to_grad, to_values, None, None, None


def _grad_values_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, x, offsets, ctx.backend = inputs
    ctx.save_for_backward(grad, x, offsets)


def _grad_values_backward(ctx: Any, direction: Tensor) -> tuple[Any, ...]:
    grad, x, offsets = ctx.saved_tensors
    ops = torch.ops.dynadiag
    to_grad = to_x = None
    if ctx.needs_input_grad[0]:
        to_grad = ops.diagonal_linear(x, direction, offsets, None, grad.shape[-1], ctx.backend)
    if ctx.needs_input_grad[1]:
        to_x = ops.diagonal_grad_x(grad, direction, offsets, x.shape[-1], ctx.backend)
    return to_grad, to_x, None, None


def _to_dense_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _to_dense_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (offsets,) = ctx.saved_tensors
    return torch.ops.dynadiag.dense_to_diagonal(grad, offsets), None, None, None


def _to_diagonal_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, offsets = inputs
    ctx.save_for_backward(offsets)
    ctx.shape = weight.shape


def _to_diagonal_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (offsets,) = ctx.saved_tensors
    return torch.ops.dynadiag.diagonal_to_dense(grad, offsets, *ctx.shape), None


for _name, _backward, _setup in (
    ("diagonal_linear", _linear_backward, _linear_setup),
    ("diagonal_grad_x", _grad_x_backward, _grad_x_setup),
    ("diagonal_grad_values", _grad_values_backward, _grad_values_setup),
    ("diagonal_to_dense", _to_dense_backward, _to_dense_setup),
    ("dense_to_diagonal", _to_diagonal_backward, _to_diagonal_setup),
):
    torch.library.register_autograd(
        f"dynadiag::{_name}", _backward, setup_context=_setup, lib=_library
    )
