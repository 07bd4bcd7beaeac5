"""What a product derives from the stored weights, kept for as long as they do not change."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")

# Keyed by the parameter, which is not kept alive.
_kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def kept(
    name: str,
    parameter: Tensor,
    values: Tensor,
    pattern: Hashable,
    derive: Callable[[], T],
) -> T:
    """Return what `derive` makes of the weights, made once for each version of the parameter.

    Writing through `.data` does not count up a parameter's version, as in the dense backend.

    Args:
        name: of what is derived.
        parameter: the stored weights; its version tells whether they changed.
        values: the same, perhaps in the dtype of autocast.
        pattern: an object that is replaced whenever the pattern changes.
        derive: makes it anew.
    """
    if parameter.is_inference():  # such tensors have no version
        return derive()
    state = (parameter._version, parameter.data_ptr(), parameter.dtype, values.dtype, pattern)
    mine: dict[str, Any] = _kept.setdefault(parameter, {})
    if name in mine and mine[name][0] == state:
        known: T = mine[name][1]
        return known
    derived = derive()
    capturing = values.is_cuda and torch.cuda.is_current_stream_capturing()
    if not capturing:  # what a graph computes is there only once it was replayed
        mine[name] = state, derived
    return derived
