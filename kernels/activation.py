"""Functions that a product may apply to its result."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
}


def check_activation(name: str | None) -> None:
    """Raise ValueError unless the name is that of an activation, or None."""
    if name is not None and name not in ACTIVATIONS:
        raise ValueError(f"unknown activation '{name}'; known are {', '.join(ACTIVATIONS)}, None")


def activate(y: Tensor, name: str | None) -> Tensor:
    """Return the named function of y, or y itself for None.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    check_activation(name)
    return y if name is None else ACTIVATIONS[name](y)
