"""Methods that move the topology every so many optimizer steps, until late in the training."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nn.dynamic import DynamicLinear
from .method import Method, check_option
from .topology import cosine_fraction


@dataclass(frozen=True)
class PeriodicMethod(Method):
    """Updates every `every` optimizer steps, the last time when `until` of the training is over.

    Attributes:
        every: optimizer steps from one update to the next, but at most a twentieth of all.
        until: share of the training after which the topology stays as it is.
        drop: share of the active units exchanged at the first update, falling along a cosine.
    """

    every: int = 100
    until: float = 0.75
    drop: float = 0.3

    def __post_init__(self) -> None:
        whole = isinstance(self.every, int) and self.every >= 1
        check_option("every", self.every, whole, "a whole number of optimizer steps, at least 1")
        check_option("until", self.until, 0 < self.until <= 1, "a share in (0, 1]")
        check_option("drop", self.drop, 0 <= self.drop < 1, "a share in [0, 1)")

    def period(self, total: int) -> int:
        """Return the optimizer steps from one update to the next."""
        return max(1, min(self.every, total // 20))

    def last_update(self, total: int) -> int:
        """Return the step of the last update; there is at least one in two steps or more."""
        period = self.period(total)
        late = min(int(self.until * total), total - 1)
        return max(period, late // period * period)

    def updates(self, step: int, total: int) -> bool:
        """Return whether the topology moves right before optimizer step `step`, counted from 0."""
        return step % self.period(total) == 0 and 0 < step <= self.last_update(total)

    @torch.no_grad()
    def update(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor | None:
        """Move the topology of one layer; see `Method.update`."""
        before = layer.active()
        after = self.topology(layer, step, total, generator)
        layer.set_active(after)
        return before ^ after

    @abc.abstractmethod
    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active units after the update, a bool mask; see `update`."""

    def fraction(self, step: int, total: int) -> float:
        """Return the share of the active units to exchange at this step."""
        return cosine_fraction(step, total, self.drop, self.until)
