"""Random topologies that never move: what every dynamic method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import nn

from ... import geometry
from ...nn import DiagonalLinear, MaskedDenseLinear
from ..build import STARTS, masked, random_units, static_diagonals
from ..method import Method, check_choice


@final
@dataclass(frozen=True)
class Static(Method):
    """Random diagonals.

    Attributes:
        start: how they are drawn, `random`, `stratified` or `aligned`; see `dynadiag.dst.build`.
    """

    name: ClassVar[str] = "static"
    layer: ClassVar[str] = "diagonal"

    start: str = "random"

    def __post_init__(self) -> None:
        check_choice("start", self.start, STARTS)

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> DiagonalLinear:
        """Return a layer of `kept` diagonals; see `Method.build`."""
        return static_diagonals(linear, kept, self.start, generator)

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return the length of a diagonal."""
        return geometry.diagonal_length(out_features, in_features)


@final
@dataclass(frozen=True)
class StaticUnstructured(Method):
    """Random entries."""

    name: ClassVar[str] = "static_unstructured"
    layer: ClassVar[str] = "unstructured"

    def build(self, linear: nn.Linear, kept: int, generator: torch.Generator) -> MaskedDenseLinear:
        """Return a layer of `kept` random entries; see `Method.build`."""
        shape = (linear.out_features, linear.in_features)
        return masked(linear, random_units(shape, kept, generator), kept)

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return 1: a unit is one entry."""
        return 1
