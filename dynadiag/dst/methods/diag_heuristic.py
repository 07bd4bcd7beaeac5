"""DiagHeur: RigL's exchange for diagonals, grown at random (arXiv 2506.11449, appendix H)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ... import geometry
from ...nn import DynamicDiagonalLinear
from ...nn.dynamic import DynamicLinear
from ..build import dynamic_diagonals
from ..periodic import PeriodicMethod
from ..topology import exchange, random_scores


@final
@dataclass(frozen=True)
class DiagHeuristic(PeriodicMethod):
    """Drops the diagonals of the least magnitude and grows as many random ones, at zero."""

    name: ClassVar[str] = "diag_heuristic"
    layer: ClassVar[str] = "diagonal"

    def build(
        self, linear: nn.Linear, kept: int, generator: torch.Generator
    ) -> DynamicDiagonalLinear:
        """Return a layer of random diagonals whose alpha only records which are active."""
        layer = dynamic_diagonals(linear, kept, kept, generator)
        layer.alpha.requires_grad_(False)
        return layer

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return the length of a diagonal."""
        return geometry.diagonal_length(out_features, in_features)

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active diagonals after the update; see `PeriodicMethod.topology`."""
        active = layer.active()
        scores = random_scores(active, generator)
        return exchange(
            active, layer.strength(), scores, layer.num_active_target, self.fraction(step, total)
        )
