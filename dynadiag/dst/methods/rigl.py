"""RigL: drop what is small, grow where the gradient is large (arXiv 1911.11134)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ...nn.dynamic import DynamicLinear
from ..topology import exchange
from ..unstructured import UnstructuredMethod


@final
@dataclass(frozen=True)
class RigL(UnstructuredMethod):
    """Keeps the largest weights and grows the entries with the largest dense gradients, at zero.

    As in the published code an entry just dropped may be grown again at once; it then keeps its
    value.
    """

    name: ClassVar[str] = "rigl"

    @property
    def needs_gradient(self) -> bool:
        """True: growth looks at the gradients of inactive entries."""
        return True

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active entries after the update; see `PeriodicMethod.topology`."""
        return exchange(
            layer.active(),
            layer.strength(),
            layer.gradient_strength(),
            self.count(layer, step, total),
            self.fraction(step, total),
            regrow=True,
        )
