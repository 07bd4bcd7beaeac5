"""What a checkpoint says of a sparse layer, and the layer built anew from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..nn import (
    BlockLinear,
    CondensedLinear,
    CSRLinear,
    DiagonalLinear,
    DynamicDiagonalLinear,
    MaskedDenseLinear,
    NMLinear,
    SparseLinear,
)
from ..nn.butterfly import ButterflyLinear
from ..nn.dynamic import DynamicLinear
from .method import Method
from .registry import method as find_method
from .split import SplitLinear

Blueprint = dict[str, Any]
DENSE: Blueprint = {"class": "nn.Linear"}

# The arguments that give a layer its structure; the layers have attributes of the same names. How
# products are computed (backend, formulation) is for the machine that loads to say.
_STRUCTURE: dict[str, tuple[type[SparseLinear], tuple[str, ...]]] = {
    kind.__name__: (kind, names)
    for kind, names in (
        (BlockLinear, ("sparsity", "block")),
        (ButterflyLinear, ("block", "num_blocks", "rank")),
        (CSRLinear, ("sparsity",)),
        (CondensedLinear, ("sparsity",)),
        (DiagonalLinear, ("num_diagonals",)),
        (DynamicDiagonalLinear, ("num_diagonals", "selection")),
        (MaskedDenseLinear, ("sparsity",)),
        (NMLinear, ("n", "m")),
    )
}


def sparse_layers(model: nn.Module) -> dict[str, SparseLinear | SplitLinear]:
    """Return the sparse layers of a model by name; a fused one stands for its parts."""
    found: dict[str, SparseLinear | SplitLinear] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear | SplitLinear) and module not in inside:
            found[name] = module
            inside.update(module.modules())
    return found


def describe(layer: nn.Module) -> Blueprint:
    """Return, in plain values, what `build` needs to make such a layer, all but its tensors.

    Raises:
        TypeError: nothing is known of how layers of this class are built.
    """
    if isinstance(layer, SplitLinear):
        return {"class": "SplitLinear", "parts": [describe(part) for part in layer.parts]}
    if not isinstance(layer, SparseLinear):
        raise TypeError(_foreign(layer))
    method = _method(layer)
    return {
        "class": type(layer).__name__,
        "sizes": [layer.in_features, layer.out_features, layer.bias is not None],
        "structure": _structure(layer, method),
        "requested": layer.requested_sparsity,
        "method": None if method is None else {"name": method.name, **method.options()},
        "phase": _phase(layer),
    }


def build(blueprint: Mapping[str, Any]) -> nn.Module:
    """Return a layer on the CPU as described, its tensors still to be loaded.

    Raises:
        ValueError: the class, the method or an option of it is unknown.
    """
    if "parts" in blueprint:
        return SplitLinear([build(part) for part in blueprint["parts"]])
    method = None if blueprint["method"] is None else find_method(**blueprint["method"])
    layer = _bare(blueprint, method)
    layer.requested_sparsity = blueprint["requested"]
    if isinstance(layer, DynamicLinear):
        layer.method = method
    return layer


def set_phase(layer: nn.Module, blueprint: Mapping[str, Any]) -> None:
    """Bring a layer to the point of its training that it was described at."""
    if isinstance(layer, SplitLinear):
        for part, described in zip(layer.parts, blueprint["parts"], strict=True):
            set_phase(part, described)
    if isinstance(layer, DynamicDiagonalLinear):
        phase = blueprint["phase"]
        layer.reserve(max(layer.reserved, phase["num_active"]))
        layer.set_num_active(phase["num_active"])
        layer.set_temperature(phase["temperature"])


def difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """Return what makes two described layers parts of different plans, or None.

    Args:
        here: the layer of a model.
        there: that of a file.
    """
    for own, other in zip(here.get("parts", ()), there.get("parts", ()), strict=False):
        found = difference(own, other)
        if found is not None:
            return found
    for name in ("class", "sizes", "structure", "method"):
        if here.get(name) != there.get(name):
            return f"{name} {there.get(name)} in the file, {here.get(name)} in the model"
    return None


def _bare(blueprint: Mapping[str, Any], method: Method | None) -> SparseLinear:
    sizes, structure = blueprint["sizes"], blueprint["structure"]
    if method is not None and "kept" in structure:
        layer = method.build(nn.Linear(*sizes), structure["kept"], torch.Generator())
        assert isinstance(layer, SparseLinear)
        return layer
    name = blueprint["class"]
    if name not in _STRUCTURE:
        raise ValueError(
            f"there is no layer class {name!r}; known are {', '.join(_STRUCTURE)}: "
            "a newer dynadiag may know it"
        )
    kind, _ = _STRUCTURE[name]
    return kind(*sizes, **structure)


def _method(layer: SparseLinear) -> Method | None:
    method = layer.method if isinstance(layer, DynamicLinear) else None
    return method if isinstance(method, Method) else None


def _structure(layer: SparseLinear, method: Method | None) -> dict[str, Any]:
    if isinstance(layer, DynamicLinear) and method is not None:  # built by its method
        weights = layer.num_active_target * (layer.values.numel() // layer.units)
        return {"kept": weights // method.granularity(layer.out_features, layer.in_features)}
    kind, names = _STRUCTURE.get(type(layer).__name__, (None, ()))
    if kind is not type(layer):
        raise TypeError(_foreign(layer))
    return {name: getattr(layer, name) for name in names}


def _phase(layer: SparseLinear) -> dict[str, Any]:
    if not isinstance(layer, DynamicDiagonalLinear):
        return {}
    return {"temperature": float(layer.temperature), "num_active": int(layer.num_active)}


def _foreign(layer: nn.Module) -> str:
    return (
        f"a checkpoint cannot hold a layer of class {type(layer).__name__}, only "
        f"{', '.join(_STRUCTURE)}: use one of these, or save model.state_dict() instead"
    )
