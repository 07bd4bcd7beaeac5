"""What an optimizer remembers of units that changed sides, whatever the optimizer is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..nn.dynamic import DynamicLinear
from ..nn.sharded import assign_


@torch.no_grad()
def forget_moments(optimizer: Optimizer, layer: DynamicLinear, changed: Tensor) -> None:
    """Zero the state that an optimizer holds for the changed units of a layer.

    That is every floating-point state tensor shaped like its parameter: momentum, both moments of
    Adam, their maximum. Step counts and states of other shapes, such as the row and column factors
    of Adafactor, stay as they are; so do 8-bit codes, where zero is no number.

    Args:
        optimizer: any one; what it has no state for is skipped.
        layer: the layer whose topology changed.
        changed: bool, one entry a unit, as `layer.active()`.
    """
    for parameter, units in _by_unit(layer, changed):
        for state in optimizer.state.get(parameter, {}).values():
            if _is_moment(state, parameter):
                _zero_(state, units)


def _by_unit(layer: DynamicLinear, changed: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the parameters with entries that belong to units, each with a mask of its shape."""
    pairs = [(layer.values, layer.over_values(changed))]
    if isinstance(alpha := getattr(layer, "alpha", None), nn.Parameter):
        pairs.append((alpha, changed))
    return pairs


def _is_moment(state: object, parameter: Tensor) -> bool:
    return (
        isinstance(state, Tensor) and state.is_floating_point() and state.shape == parameter.shape
    )


def _zero_(state: Tensor, entries: Tensor) -> None:
    """Zero entries of a state; a sharded one takes its part of them without a message."""
    if type(state) is Tensor:
        state.masked_fill_(entries.to(state.device), 0)
    else:
        keep = torch.empty_like(state)
        assign_(keep, ~entries)
        state.mul_(keep)
