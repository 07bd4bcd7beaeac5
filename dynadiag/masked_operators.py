"""torch.ops.dynadiag.masked: a weight times its mask, whose gradient may ignore the mask.

Where a layer learns which inactive weights to grow, a backward now and then computes gradients of
all of them. The switch is a 0-dim bool tensor on the CPU that only these operators look into: a
compiled graph holds one call for both cases.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("dynadiag", "FRAGMENT")
_library.define("masked(Tensor values, Tensor mask, Tensor dense_gradient) -> Tensor")
_library.define("masked_gradient(Tensor grad, Tensor mask, Tensor dense_gradient) -> Tensor")


def masked(values: Tensor, mask: Tensor, dense_gradient: Tensor) -> Tensor:
    """Return values * mask.

    Args:
        values: of any shape.
        mask: bool, of a shape that broadcasts to that of values.
        dense_gradient: 0-dim bool on the CPU; if true, gradients pass as if the mask were all true.
            Compiled code reads it when the backward runs, other code here.
    """
    if not torch.compiler.is_compiling() and not dense_gradient:
        return values * mask
    weight: Tensor = torch.ops.dynadiag.masked(values, mask, dense_gradient)
    return weight


def _masked(values: Tensor, mask: Tensor, dense_gradient: Tensor) -> Tensor:
    return values * mask


def _masked_gradient(grad: Tensor, mask: Tensor, dense_gradient: Tensor) -> Tensor:
    return grad.clone() if dense_gradient else grad * mask


_library.impl("masked", _masked, "CompositeExplicitAutograd")
_library.impl("masked_gradient", _masked_gradient, "CompositeExplicitAutograd")


@torch.library.register_fake("dynadiag::masked", lib=_library)
def _(values: Tensor, mask: Tensor, dense_gradient: Tensor) -> Tensor:
    return values * mask


@torch.library.register_fake("dynadiag::masked_gradient", lib=_library)
def _(grad: Tensor, mask: Tensor, dense_gradient: Tensor) -> Tensor:
    return grad * mask


def _masked_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, mask, dense_gradient = inputs
    ctx.save_for_backward(mask, dense_gradient)


def _masked_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return torch.ops.dynadiag.masked_gradient(grad, *ctx.saved_tensors), None, None


for _name in ("masked", "masked_gradient"):
    torch.library.register_autograd(
        f"dynadiag::{_name}", _masked_backward, setup_context=_masked_setup, lib=_library
    )
