"""What a sparse training method decides: the layer it trains, and when its topology moves."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..nn.dynamic import DynamicLinear
from .schedules import Schedule


def check_option(name: str, value: object, valid: bool, needed: str) -> None:
    """Raise ValueError unless the option is valid; `needed` says what it must be."""
    if not valid:
        raise ValueError(f"{name} is {value!r}, but must be {needed}")


def check_choice(name: str, value: str, known: Collection[str]) -> None:
    """Raise ValueError unless the option is one of those known."""
    check_option(name, value, value in known, f"one of {', '.join(known)}")


@dataclass(frozen=True)
class Method(abc.ABC):
    """A way to train a model with most weights absent; its fields are its options.

    A method holds no state: what it does follows from the layer, the optimizer step and a generator
    that is seeded alike on all ranks. The defaults here are those of a topology that never moves.

    Attributes:
        name: what `dynadiag.plan(method=...)` calls it.
        layer: the kind of weight it trains: `dense`, `diagonal`, `unstructured`, `condensed`,
            `block` or `butterfly`.
    """

    name: ClassVar[str]
    layer: ClassVar[str]

    @property
    def needs_gradient(self) -> bool:
        """Whether updates look at the gradients of inactive units."""
        return False

    @abc.abstractmethod
    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> nn.Module:
        """Return the layer that replaces a dense one.

        It has the bias of the dense layer; weights are drawn anew with torch's global generator,
        scaled to the fan-in kept.

        Args:
            linear: the dense layer, left as it is.
            kept: units kept at the end of the training; a unit is `granularity` weights.
            generator: on the CPU; draws the topology.
        """

    @abc.abstractmethod
    def granularity(self, out_features: int, in_features: int) -> int:
        """Return how many weights one unit holds."""

    def why_not(self, out_features: int, in_features: int, sparsity: float) -> str | None:
        """Return why a layer of this shape cannot be trained at this sparsity, or None."""
        unit = self.granularity(out_features, in_features)
        weights = (1 - sparsity) * out_features * in_features
        if weights < unit / 2:
            return (
                f"sparsity {sparsity} leaves {weights:.3g} weights of a {out_features} x "
                f"{in_features} layer, less than half the smallest unit of {self.name}, "
                f"{unit} weights; lower the sparsity or exclude the layer"
            )
        return None

    def updates(self, step: int, total: int) -> bool:
        """Return whether the topology moves right before optimizer step `step`, counted from 0."""
        return False

    def update(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor | None:
        """Move the topology of one layer.

        Args:
            layer: with the gradients of the step in `.grad`, of all units if `needs_gradient`.
            step: optimizer steps taken so far.
            total: optimizer steps of the whole training.
            generator: on the CPU, seeded by the step and the layer.

        Returns:
            The mask of the units that were dropped or grown, or None if there are none.
        """
        return None

    def advance(self, layer: DynamicLinear, step: int, total: int) -> None:
        """Set what depends on nothing but the step, for the forward before step `step`."""
        return None

    def after_step(self, layer: DynamicLinear, lr: float) -> None:
        """Do what follows an optimizer step taken with this learning rate."""
        return None

    def drifts(self, layer: DynamicLinear) -> bool:
        """Return whether a step may change what is active without an update."""
        return False

    def compact(self, layer: DynamicLinear) -> nn.Module:
        """Return a layer with the same output that stores and computes only what is kept."""
        return layer.compact()

    def options(self) -> dict[str, Any]:
        """Return the options as values that JSON knows and `registry.method` takes."""
        fields = [field.name for field in dataclasses.fields(self)]
        return {name: _plain(getattr(self, name)) for name in fields}


def _plain(option: Any) -> Any:
    if isinstance(option, Schedule):
        return {"schedule": type(option).__name__, **vars(option)}
    return option
