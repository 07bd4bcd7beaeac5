"""SRigL: constant fan-in that moves, and neurons that give theirs up (arXiv 2305.02299)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ...nn import CondensedLinear, MaskedDenseLinear, SparseLinear
from ...nn.dynamic import DynamicLinear
from ...nn.selection import largest_of_each
from ..build import masked
from ..method import check_option
from ..periodic import PeriodicMethod
from ..topology import random_scores, strongest


@final
@dataclass(frozen=True)
class SRigL(PeriodicMethod):
    """RigL in which every neuron keeps as many inputs as every other, or none.

    A neuron with few salient weights (large ones, and absent ones with large gradients) is ablated,
    and its share of the weights goes to the others; it can come back. Exclude the last layer, whose
    neurons are the classes. What is left of the budget after giving all the same goes unused.

    Attributes:
        gamma: a neuron is ablated below this share of the present fan-in, at least 1 weight; 0
            ablates none.
    """

    name: ClassVar[str] = "srigl"
    layer: ClassVar[str] = "condensed"

    gamma: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option("gamma", self.gamma, 0 <= self.gamma <= 1, "a share in [0, 1]")

    @property
    def needs_gradient(self) -> bool:
        """True: saliency and growth look at the gradients of inactive entries."""
        return True

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> MaskedDenseLinear:
        """Return a masked layer with `kept` random inputs for every neuron; see `Method.build`."""
        every = torch.ones(linear.out_features, linear.in_features, dtype=torch.bool)
        mask = strongest_of_each(every, random_scores(every, generator), kept)
        return masked(linear, mask, kept * linear.out_features)

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return the weights that one more input for every neuron takes."""
        return out_features

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active entries after the update; see `PeriodicMethod.topology`."""
        active, gradient = layer.active(), layer.gradient_strength()
        target, strength = layer.num_active_target, layer.strength()
        moving = int(self.fraction(step, total) * target)
        kept = strongest(active, strength, min(target - moving, layer.kept))
        salient = kept | strongest(torch.ones_like(active), gradient, moving)
        neurons = self.surviving(salient.sum(1), active, target)
        fan_in = target // int(neurons.sum())
        kept = strongest_of_each(kept & neurons.unsqueeze(1), strength, fan_in)
        grown = gradient.masked_fill(kept, math.inf)
        return strongest_of_each(neurons.unsqueeze(1).expand_as(active), grown, fan_in)

    def surviving(self, salient: Tensor, active: Tensor, target: int) -> Tensor:
        """Return which neurons keep weights: bool, (out_features,).

        Args:
            salient: (out_features,) number of salient weights of each.
            active: (out_features, in_features) the topology before the update.
            target: weights to place; enough neurons survive to hold them.
        """
        every = torch.ones_like(salient, dtype=torch.bool)
        if self.gamma == 0:
            return every
        fan_in = int(active.sum(1).max())
        alive = salient >= max(1, int(self.gamma * fan_in))
        least = math.ceil(target / active.shape[1])
        return alive if int(alive.sum()) >= least else strongest(every, salient.float(), least)

    def compact(self, layer: DynamicLinear) -> SparseLinear:
        """Return a condensed layer, or CSR where neurons are ablated.

        The condensed format stores as many weights for every neuron, so that an ablated one would
        be paid for like any other.
        """
        inputs = layer.active().sum(1)
        if not bool(inputs.all()):
            return layer.compact()
        sparsity = 1 - int(inputs[0]) / layer.in_features
        compact = CondensedLinear.from_linear(layer.to_linear(), sparsity=sparsity)
        compact.requested_sparsity = layer.requested_sparsity
        return compact


def strongest_of_each(among: Tensor, scores: Tensor, count: int) -> Tensor:
    """Return the mask of the best entries of `among` in each row, up to `count`, ties by index."""
    ranked = scores.nan_to_num(-math.inf, math.inf, -math.inf).masked_fill(~among, -math.inf)
    chosen = torch.zeros_like(among).scatter(1, largest_of_each(ranked, count), True)
    return chosen & among
