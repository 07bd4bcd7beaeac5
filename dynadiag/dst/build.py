"""Layers for the training methods, made in place of dense ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import geometry
from ..nn import DiagonalLinear, DynamicDiagonalLinear, MaskedDenseLinear, SparseLinear
from .topology import random_scores, strongest

STARTS = ("random", "stratified", "aligned")
# An aligned diagonal lies within this share of its length of the start of its stratum.
_SLACK = 1 / 4


def random_units(shape: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """Return a mask on the CPU with `count` units drawn uniformly."""
    every = torch.ones(shape, dtype=torch.bool)
    return strongest(every, random_scores(every, generator), count)


def masked(linear: nn.Linear, mask: Tensor, kept: int) -> MaskedDenseLinear:
    """Return a masked layer with the bias of `linear` and new weights.

    Args:
        linear: the dense layer.
        mask: (out_features, in_features) bool, the entries that are active at first.
        kept: entries active at the end of the training.
    """
    weight = linear.weight
    layer = MaskedDenseLinear(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        sparsity=1 - kept / weight.numel(),
        device=weight.device,
        dtype=weight.dtype,
    )
    layer.set_active(mask.to(weight.device))
    layer.reset_parameters()
    copy_bias(layer, linear)
    return layer


def first_diagonals(
    linear: nn.Linear, count: int, start: str, generator: torch.Generator
) -> Tensor:
    """Return a mask (P,) on the CPU with `count` diagonals drawn as `start`, one of `STARTS`, says.

    `random` draws them uniformly. `stratified` cuts the offsets into `count` equal strata, draws
    one in each, and turns them all by one random offset. `aligned` does so too where the diagonals
    can reach every feature of the longer side, count · D >= P. Where they cannot, it leaves them
    unturned and close to the start of their strata: two layers of the same sizes, one reading what
    the other writes, then reach about the same features, which random windows mostly miss.
    """
    candidates = geometry.num_candidates(linear.out_features, linear.in_features)
    length = geometry.diagonal_length(linear.out_features, linear.in_features)
    if start == "random":
        return random_units((candidates,), count, generator)
    edges = torch.arange(count + 1) * candidates // count
    widths = edges.diff()
    turn = int(torch.randint(candidates, (1,), generator=generator))
    if start == "aligned" and count * length < candidates:
        widths, turn = torch.full((count,), int(_SLACK * length)), 0
    within = torch.rand(count, generator=generator) * widths
    mask = torch.zeros(candidates, dtype=torch.bool)
    mask[(edges[:-1] + within.long() + turn) % candidates] = True
    return mask


def static_diagonals(
    linear: nn.Linear, kept: int, start: str, generator: torch.Generator
) -> DiagonalLinear:
    """Return a layer of `kept` diagonals, with the bias of `linear` and new weights."""
    offsets = first_diagonals(linear, kept, start, generator).nonzero()[:, 0]
    layer = DiagonalLinear(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        offsets=offsets,
        device=linear.weight.device,
        dtype=linear.weight.dtype,
    )
    copy_bias(layer, linear)
    return layer


def dynamic_diagonals(
    linear: nn.Linear,
    kept: int,
    initial: int,
    generator: torch.Generator,
    *,
    candidates: int = 0,
    start: str = "random",
    selection: str = "hard_topk",
    temperature: float = 1.0,
) -> DynamicDiagonalLinear:
    """Return a layer that learns its diagonals, with the bias of `linear` and new weights.

    Args:
        linear: the dense layer.
        kept: diagonals at the end of the training.
        initial: diagonals at its beginning, no fewer than `kept`.
        generator: draws them.
        candidates: diagonals on trial beside them during the training, at most.
        start: how; see `first_diagonals`.
        selection: how alpha weighs the diagonals.
        temperature: of the selection at first.
    """
    layer = DynamicDiagonalLinear(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        num_diagonals=kept,
        selection=selection,
        temperature=temperature,
        device=linear.weight.device,
        dtype=linear.weight.dtype,
    )
    layer.reserve(min(initial + candidates, layer.units))
    if initial > kept:
        layer.set_num_active(initial)
        layer.reset_parameters()
    if selection != "soft_topk":  # its alpha are all equal at first, and so choose nothing
        first = first_diagonals(linear, initial, start, generator)
        layer.set_active(first.to(linear.weight.device), zero_grown=False)
    copy_bias(layer, linear)
    return layer


def copy_bias(layer: SparseLinear, linear: nn.Linear) -> None:
    """Give a layer the bias of the dense one that it replaces."""
    if layer.bias is not None:
        with torch.no_grad():
            layer.bias.copy_(linear.bias)
