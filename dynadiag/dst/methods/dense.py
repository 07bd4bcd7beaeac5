"""No sparsity: the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn

from ..method import Method


@final
@dataclass(frozen=True)
class Dense(Method):
    """Every layer stays dense."""

    name: ClassVar[str] = "dense"
    layer: ClassVar[str] = "dense"

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> nn.Module:
        """Return the dense layer itself."""
        return linear

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return all weights: the layer is kept as a whole."""
        return out_features * in_features

    def why_not(self, out_features: int, in_features: int, sparsity: float) -> str | None:
        """Return that no layer is converted."""
        return "the method dense leaves every layer dense"
