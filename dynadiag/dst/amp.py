"""Loss scaling by optimizers that unscale, or skip a step, inside their fused kernel.

`torch.amp.GradScaler` hands those its scale and whether it found an infinity as attributes; other
optimizers it calls with true gradients, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim import Optimizer


def skips_step(optimizer: Optimizer) -> bool:
    """Return whether the step that begins will leave all parameters as they are."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


@contextmanager
def true_gradients(optimizer: Optimizer, module: nn.Module) -> Iterator[None]:
    """Have the gradients of a module without the loss scale that its optimizer will divide out.

    The scale is put back at the end, exactly where it is a power of two, as it is by default.
    """
    scale = getattr(optimizer, "grad_scale", None)
    if scale is None:
        yield
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(scale.to(parameter.device))
    yield
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(scale.to(parameter.device))
