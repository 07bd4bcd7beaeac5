"""SET: drop what is small, grow at random (arXiv 1707.04780)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ...nn.dynamic import DynamicLinear
from ...nn.sharded import full
from ..topology import exchange, random_scores
from ..unstructured import UnstructuredMethod


@final
@dataclass(frozen=True)
class SET(UnstructuredMethod):
    """Drops the same share of the smallest positive and of the largest negative weights.

    As many random entries are grown, at zero; those just dropped stay out. The share `drop` does
    not fall over time.
    """

    name: ClassVar[str] = "set"

    def fraction(self, step: int, total: int) -> float:
        """Return `drop` at every step."""
        return self.drop

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active entries after the update; see `PeriodicMethod.topology`."""
        active = layer.active()
        return exchange(
            active,
            rank_within_sign(full(layer.values), active),
            random_scores(active, generator),
            self.count(layer, step, total),
            self.fraction(step, total),
        )


def rank_within_sign(values: Tensor, active: Tensor) -> Tensor:
    """Return the share of active weights of its own sign that each one is no smaller than.

    Dropping by this score takes the same share of both signs, up to one weight. Zero counts as
    positive, inactive entries get 0.
    """
    ranks = torch.zeros(values.numel(), device=values.device)
    size = values.abs().flatten()
    for side in (values >= 0, values < 0):
        places = (active & side).flatten().nonzero()[:, 0]
        rising = places[size[places].argsort(stable=True)]
        ranks[rising] = torch.arange(1, len(places) + 1, device=values.device) / len(places)
    return ranks.view(values.shape)
