"""The storage formats there are, by name."""

from __future__ import annotations

from . import nn


def formats() -> dict[str, type[nn.SparseLinear]]:
    """Return the sparse layers by the name of their format; each tells `why_not` it cannot do."""
    layers: list[type[nn.SparseLinear]] = [
        nn.DiagonalLinear,
        nn.CSRLinear,
        nn.NMLinear,
        nn.BlockLinear,
        nn.CondensedLinear,
        nn.MaskedDenseLinear,
    ]
    return {layer.format: layer for layer in layers}
