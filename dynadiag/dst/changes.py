"""What listeners of a Scheduler are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, final

from torch import Tensor

from ..nn.dynamic import DynamicLinear

Cause = Literal["update", "drift"]


@final
@dataclass(frozen=True)
class TopologyChange:
    """What became of the topology of one layer at one optimizer step.

    Attributes:
        step: the optimizer step, counted from 0.
        layer: its name in the model.
        cause: an `update` by the method, or a `drift` of what the selection is read from, by the
            optimizer or a schedule.
        temperature: that of the selection from now on, or None for a layer without.
        kept: units active now.
        changed: units dropped plus units grown.
        overlap: the share of the units active before that still are.
    """

    step: int
    layer: str
    cause: Cause
    temperature: float | None
    kept: int
    changed: int
    overlap: float

    @classmethod
    def since(
        cls, before: Tensor, layer: DynamicLinear, *, name: str, step: int, cause: Cause
    ) -> Self:
        """Compare the active units of a layer with those it had before."""
        after = layer.active()
        temperature = getattr(layer, "temperature", None)
        return cls(
            step=step,
            layer=name,
            cause=cause,
            temperature=None if temperature is None else float(temperature),
            kept=int(after.sum()),
            changed=int((before ^ after).sum()),
            overlap=float((before & after).sum() / before.sum()),
        )
