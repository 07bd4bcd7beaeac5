"""Methods that exchange single entries of a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ..nn import MaskedDenseLinear
from .build import masked, random_units
from .gradual import GradualMethod


@dataclass(frozen=True)
class UnstructuredMethod(GradualMethod):
    """Starts from random entries (with `initial_sparsity`, from more than are kept)."""

    layer: ClassVar[str] = "unstructured"

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> MaskedDenseLinear:
        """Return a masked layer of random entries; see `Method.build`."""
        initial = self.initial_count(linear.weight.numel(), kept)
        shape = (linear.out_features, linear.in_features)
        return masked(linear, random_units(shape, initial, generator), kept)

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return 1: a unit is one entry."""
        return 1
