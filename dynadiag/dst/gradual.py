"""Methods that may begin with more units than they end with."""

from __future__ import annotations

from dataclasses import dataclass

from ..nn.dynamic import DynamicLinear
from .method import check_choice, check_option
from .periodic import PeriodicMethod
from .schedules import Constant, Cosine, Linear, Schedule

# The share of the way still to go.
_REMAINING: dict[str, Schedule] = {
    "constant": Constant(0.0),
    "linear": Linear(1.0, 0.0),
    "cosine": Cosine(1.0, 0.0),
}


@dataclass(frozen=True)
class GradualMethod(PeriodicMethod):
    """A periodic method with a sparsity that may rise over time (arXiv 2506.11449, table 15).

    Attributes:
        sparsity_schedule: `constant`, or `linear` or `cosine` from `initial_sparsity` to what the
            plan says, reached at the last update.
        initial_sparsity: of layers that end sparser; `constant` does not look at it.
    """

    sparsity_schedule: str = "constant"
    initial_sparsity: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("sparsity_schedule", self.sparsity_schedule, _REMAINING)
        initial = self.initial_sparsity
        check_option("initial_sparsity", initial, 0 <= initial < 1, "a share in [0, 1)")

    def initial_count(self, units: int, kept: int) -> int:
        """Return the units that a layer starts with which has `units` and ends with `kept`."""
        if self.sparsity_schedule == "constant":
            return kept
        return max(kept, round((1 - self.initial_sparsity) * units))

    def count(self, layer: DynamicLinear, step: int, total: int) -> int:
        """Return the units that a layer has from this step on."""
        kept = layer.num_active_target
        remaining = _REMAINING[self.sparsity_schedule](step, self.last_update(total) + 1)
        return kept + round((self.initial_count(layer.units, kept) - kept) * remaining)
