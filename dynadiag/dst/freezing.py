"""What freezing is going to do to a model, told before it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..nn import DynamicDiagonalLinear
from ..nn.dynamic import DynamicLinear
from ..nn.selection_weights import SELECTIONS
from ..nn.sharded import full
from .examples import call, evaluating
from .freeze import compact_forms
from .layers import dynamic_layers
from .surgery import replace_

_HEADS = ("layer", "kept", "of", "soft sum", "overlap")


@dataclass(frozen=True)
class LayerFreeze:
    """What freezing does to one layer.

    Attributes:
        name: dotted path in the model.
        kept: K, units that stay.
        units: units there are; what they are is the method's.
        soft_sum: sum of the weights alpha~ of all units; K for a selection that is hard, or that
            keeps its promise.
        overlap: share of that sum that lies on the units that stay; the rest of the output is lost.
    """

    name: str
    kept: int
    units: int
    soft_sum: float
    overlap: float


@dataclass(frozen=True)
class FreezeReport:
    """What freezing does to a model; `print` shows it as a table.

    Attributes:
        layers: in the order of the model's modules.
        change: ‖after - before‖ / ‖before‖ of the output on the probe, or None without one.
    """

    layers: tuple[LayerFreeze, ...]
    change: float | None

    def __str__(self) -> str:
        rows = [
            (row.name, str(row.kept), str(row.units), f"{row.soft_sum:.4g}", f"{row.overlap:.2%}")
            for row in self.layers
        ]
        widths = [max(map(len, column)) for column in zip(_HEADS, *rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (_HEADS, *rows)]
        if self.change is not None:
            lines.append(f"relative change of the output on the probe: {self.change:.3g}")
        return "\n".join(lines)


def freeze_report(model: nn.Module, *, probe: Any = None) -> FreezeReport:
    """Return what `freeze_` would do to a model, which is left as it is.

    Args:
        model: converted.
        probe: an input, a tuple of positional or a mapping of keyword arguments; the model runs on
            it as it is and as it would be frozen, in eval mode.

    Raises:
        ValueError: as `freeze_`.
    """
    forms = compact_forms(model)
    rows = tuple(_row(name, layer) for name, layer in dynamic_layers(model).items())
    return FreezeReport(rows, None if probe is None else _change(model, forms, probe))


def _row(name: str, layer: DynamicLinear) -> LayerFreeze:
    weights, active = _weights(layer), layer.active()
    total = float(weights.sum())
    overlap = float(weights[active].sum()) / total
    return LayerFreeze(name, layer.kept, layer.units, total, overlap)


@torch.no_grad()
def _weights(layer: DynamicLinear) -> Tensor:
    """alpha~ of each unit."""
    if isinstance(layer, DynamicDiagonalLinear):
        weigh = SELECTIONS[layer.selection]
        return weigh(full(layer.alpha), layer.num_active, layer.temperature)
    return layer.active().float()


def _change(model: nn.Module, forms: Mapping[nn.Module, nn.Module], probe: Any) -> float:
    with evaluating(model):
        before = _flat(call(model, probe))
        replace_(model, forms)
        try:
            after = _flat(call(model, probe))
        finally:
            replace_(model, {new: old for old, new in forms.items()})
    return float((after - before).norm() / before.norm())


def _flat(output: Any) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in _tensors(output)])


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors of an output, at any depth."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        yield from _tensors(tuple(output.values()))
    elif isinstance(output, tuple | list):
        for each in output:
            yield from _tensors(each)
