"""MEST: memory-economic training by elastic mutation (Yuan et al., NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ...nn import MaskedDenseLinear
from ...nn.dynamic import DynamicLinear
from ..build import masked, random_units
from ..method import check_choice, check_option
from ..periodic import PeriodicMethod
from ..topology import prune_and_grow, random_scores

_BOUNDS = ("hard", "soft")


@final
@dataclass(frozen=True)
class MEST(PeriodicMethod):
    """Prunes by |w| + gradient_weight · |g| of the weights there are, grows random ones at zero.

    With the `hard` bound an update prunes below the target and grows back to it; with the `soft`
    one (EM&S) it prunes to the target and grows above it, and what was grown is judged at the next
    update. The gap is `drop` of the target at first, falls along a cosine, and is zero at the last
    update. No gradient of an absent weight is ever needed.

    Attributes:
        bound: `hard`, never more weights than the target, or `soft`, up to 1 + `drop` times.
        gradient_weight: λ of the importance |w| + λ |g|.
        remove_examples: share of the training examples that are dropped, those forgotten least
            (see `dynadiag.dst.forgetting`); 0 keeps all.
        remove_at: share of the training after which they are dropped.
    """

    name: ClassVar[str] = "mest"
    layer: ClassVar[str] = "unstructured"

    drop: float = 0.2
    bound: str = "hard"
    gradient_weight: float = 0.0
    remove_examples: float = 0.0
    remove_at: float = 0.45

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("bound", self.bound, _BOUNDS)
        weight = self.gradient_weight
        check_option("gradient_weight", weight, weight >= 0, "at least 0")
        removed, at = self.remove_examples, self.remove_at
        check_option("remove_examples", removed, 0 <= removed < 1, "a share in [0, 1)")
        check_option("remove_at", at, 0 < at < 1, "a share in (0, 1)")

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> MaskedDenseLinear:
        """Return a masked layer of `kept` random entries; see `Method.build`."""
        shape = (linear.out_features, linear.in_features)
        return masked(linear, random_units(shape, kept, generator), kept)

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return 1: a unit is one entry."""
        return 1

    def bounds(self, kept: int, units: int, step: int, total: int) -> tuple[int, int]:
        """Return how many weights an update prunes to, and how many it leaves after growing.

        Args:
            kept: the target.
            units: all entries of the layer.
            step: optimizer steps taken so far.
            total: optimizer steps of the whole training.
        """
        gap = min(int(self.fraction(step, total) * kept), units - kept)
        if step >= self.last_update(total):
            gap = 0
        return (kept - gap, kept) if self.bound == "hard" else (kept, kept + gap)

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active entries after the update; see `PeriodicMethod.topology`."""
        active = layer.active()
        lower, upper = self.bounds(layer.num_active_target, layer.units, step, total)
        importance = layer.strength()
        if self.gradient_weight:
            importance = importance + self.gradient_weight * layer.gradient_strength()
        scores = random_scores(active, generator)
        grow = min(upper - lower, layer.units - layer.kept)
        return prune_and_grow(active, importance, scores, layer.kept - lower, grow)
