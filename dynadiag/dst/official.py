"""Checkpoints of the published code (horizon-research/DynaDiag) as layers of this library.

That code keeps, of each layer, `V` (P, D), one row a candidate diagonal, `alpha` (P,), and `bias`
if there is one. Beside them lie index tables, which the sizes imply, and `frozen_indices`: the K
diagonals kept, none until alpha was frozen. From then on these weigh exactly 1 and the rest 0.
K and the temperature are not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from .. import geometry
from ..nn import DiagonalLinear, DynamicDiagonalLinear, SparseLinear
from ..nn.selection import largest
from .candidates import as_linear
from .surgery import install_, like, linear_at

_TABLES = ("rows_idx", "cols_idx")


def official_count(in_features: int, out_features: int, sparsity: float) -> int:
    """Return the K of the published code, rounded up: ⌈⌊(1 - sparsity) M N⌋ / D⌉, at least 1."""
    geometry.check_sparsity(sparsity)
    kept = int((1 - sparsity) * (out_features * in_features))
    return max(1, math.ceil(kept / geometry.diagonal_length(out_features, in_features)))


def official_layer(
    state: Mapping[str, Tensor],
    in_features: int,
    out_features: int,
    *,
    sparsity: float | None = None,
    temperature: float = 1.0,
    frozen: bool = False,
) -> SparseLinear:
    """Return the layer that computes what one of the published code does.

    Args:
        state: its state dict: `V`, `alpha`, perhaps `bias`, `frozen_indices` and index tables.
        in_features: N.
        out_features: M.
        sparsity: it was built with; needed unless `frozen_indices` names the diagonals.
        temperature: of its softmax, as last set; without effect where alpha was frozen.
        frozen: alpha was frozen though no `frozen_indices` say so.

    Returns:
        A `DiagonalLinear` of the kept diagonals where alpha was frozen, elsewhere a
        `DynamicDiagonalLinear` with the selection `soft_topk`; on the device of `V`.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape, or `sparsity` is missing.
    """
    _check(state, in_features, out_features)
    indices = state.get("frozen_indices")
    if indices is not None and len(indices) > 0:
        return _frozen(state, in_features, out_features, indices)
    if sparsity is None:
        raise ValueError(
            "the state names no frozen diagonals, so that K is not known; "
            "pass the sparsity that the layer was built with"
        )
    count = official_count(in_features, out_features, sparsity)
    if frozen:
        kept = largest(state["alpha"], count).nonzero()[:, 0]
        return _frozen(state, in_features, out_features, kept)
    return _soft(state, in_features, out_features, count, temperature)


def load_official_(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    sparsity: float | None = None,
    temperature: float = 1.0,
    frozen: bool = False,
) -> nn.Module:
    """Load a state dict of the published code into a dense model of the same names.

    Each `nn.Linear` for which the state has `V` and `alpha` becomes what `official_layer` makes of
    them, with the same arguments; all other tensors are loaded as they are.

    Args:
        model: changed in place, or not at all if anything does not fit.
        state: of the whole model.
        sparsity: the layers were built with.
        temperature: of their softmax.
        frozen: alpha was frozen though no `frozen_indices` say so.

    Returns:
        The model.

    Raises:
        ValueError: the state has no official layer, or does not fit the model.
    """
    build = partial(official_layer, sparsity=sparsity, temperature=temperature, frozen=frozen)
    names = [key.removesuffix(".alpha") for key in state if key.endswith(".alpha")]
    names = [name for name in names if f"{name}.V" in state]
    if not names:
        raise ValueError(
            "the state has no layer of the published code, which would hold V and alpha; "
            "load it with model.load_state_dict"
        )
    whole = dict(state)
    swaps: dict[nn.Module, nn.Module] = {}
    for name in names:
        inside = f"{name}."
        own = {key.removeprefix(inside): state[key] for key in state if key.startswith(inside)}
        dense = as_linear(linear_at(model, name, "the official state"))
        layer = build(own, dense.in_features, dense.out_features)
        swaps[model.get_submodule(name)] = like(layer.to(dense.weight), dense)
        whole = {key: tensor for key, tensor in whole.items() if not key.startswith(inside)}
        whole |= {inside + key: tensor for key, tensor in layer.state_dict().items()}
    install_(model, swaps, whole, "the official state")
    return model


def _check(state: Mapping[str, Tensor], in_features: int, out_features: int) -> None:
    candidates = geometry.num_candidates(out_features, in_features)
    grid = (candidates, geometry.diagonal_length(out_features, in_features))
    shapes = {"V": grid, "alpha": (candidates,), "bias": (out_features,)}
    shapes |= dict.fromkeys(_TABLES, grid)
    unknown = set(state) - set(shapes) - {"frozen_indices"}
    if unknown or not {"V", "alpha"} <= set(state):
        raise ValueError(
            f"the state holds {', '.join(sorted(state)) or 'nothing'}, but an official layer "
            f"holds V and alpha, and may hold bias, frozen_indices, {' and '.join(_TABLES)}"
        )
    for name, tensor in state.items():
        if name in shapes and tensor.shape != shapes[name]:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, but a layer of {out_features} x "
                f"{in_features} has {shapes[name]}; pass the sizes it was built with"
            )


def _frozen(
    state: Mapping[str, Tensor], in_features: int, out_features: int, kept: Tensor
) -> DiagonalLinear:
    values = state["V"]
    rising = kept.sort().values
    layer = DiagonalLinear(
        in_features,
        out_features,
        "bias" in state,
        offsets=rising,
        device=values.device,
        dtype=values.dtype,
    )
    _fill(layer, state, values[rising])
    return layer


def _soft(
    state: Mapping[str, Tensor],
    in_features: int,
    out_features: int,
    count: int,
    temperature: float,
) -> DynamicDiagonalLinear:
    values = state["V"]
    layer = DynamicDiagonalLinear(
        in_features,
        out_features,
        "bias" in state,
        num_diagonals=count,
        selection="soft_topk",
        temperature=temperature,
        device=values.device,
        dtype=values.dtype,
    )
    _fill(layer, state, values)
    with torch.no_grad():
        layer.alpha.copy_(state["alpha"])
    return layer


def _fill(layer: SparseLinear, state: Mapping[str, Tensor], values: Tensor) -> None:
    with torch.no_grad():
        layer.values.copy_(values)
        if layer.bias is not None:
            layer.bias.copy_(state["bias"])
