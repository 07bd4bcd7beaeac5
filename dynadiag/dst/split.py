"""Fused layers, such as q, k and v in one matrix, as several layers side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, cast, final

import torch
from torch import Tensor, nn

from ..nn.base import SparseLinear
from .candidates import Candidate
from .names import matches

Split: TypeAlias = Literal["auto"] | Mapping[str, int]

# Not `query_key_value`: GPT-NeoX and BLOOM interleave q, k and v head by head, so that thirds of
# their outputs are no projections.
_FUSED_QKV = ("qkv", "to_qkv", "qkv_proj", "c_attn", "in_proj", "Wqkv")


@final
class SplitLinear(nn.Module):
    """A linear layer whose outputs are those of several layers, one after the other.

    One wrapped diagonal of a fused q, k, v matrix would run through all three projections; a part
    each gives every projection diagonals of its own.

    Attributes:
        parts: layers of one in_features, in the order of their outputs.
        in_features: size of the last dimension of x.
        out_features: size of the last dimension of y, over all parts.
    """

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.in_features = self._layers[0].in_features
        self.out_features = sum(part.out_features for part in self._layers)

    @property
    def _layers(self) -> list[SparseLinear]:
        return cast("list[SparseLinear]", list(self.parts))

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable."""
        return torch.cat([part.weight for part in self._layers])

    @property
    def bias(self) -> Tensor | None:
        """(out_features,), differentiable, or None."""
        biases: list[Tensor] = [part.bias for part in self._layers if part.bias is not None]
        return torch.cat(biases) if biases else None

    @property
    def nnz(self) -> int:
        """Number of weights stored, over all parts."""
        return sum(part.nnz for part in self._layers)

    @property
    def sparsity(self) -> float:
        """Sparsity reached, over all parts."""
        return 1 - self.nnz / (self.out_features * self.in_features)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights and indices of all parts."""
        return sum(part.weight_bytes for part in self._layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b.

        Args:
            x: (..., in_features).

        Returns:
            (..., out_features).
        """
        return torch.cat([part(x) for part in self.parts], dim=-1)

    def to_linear(self) -> nn.Linear:
        """Return one independent dense layer that computes the same."""
        weight, bias = self.weight.detach(), self.bias
        dense = nn.Linear(
            self.in_features,
            self.out_features,
            bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        with torch.no_grad():
            dense.weight.copy_(weight)
            if bias is not None:
                dense.bias.copy_(bias)
        return dense

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def count_parts(layer: Candidate, split: Split) -> int:
    """Return into how many layers a fused one is split.

    Args:
        layer: what is to be converted.
        split: numbers of parts by pattern, the first match wins; or `auto`: three where the name
            says q, k, v and the layer has three outputs for each input.

    Raises:
        ValueError: out_features cannot be divided so.
    """
    if split == "auto":
        fused = layer.name.rpartition(".")[2] in _FUSED_QKV
        return 3 if fused and layer.out_features == 3 * layer.in_features else 1
    for pattern, parts in split.items():
        if matches(layer.name, pattern):
            _check_parts(layer, parts)
            return parts
    return 1


def check_split(split: Split) -> None:
    """Raise ValueError unless split is `auto` or a mapping."""
    if split != "auto" and not isinstance(split, Mapping):
        raise ValueError(f"split is {split!r}; pass 'auto', or parts by pattern: {{'qkv': 3}}")


def _check_parts(layer: Candidate, parts: int) -> None:
    if not isinstance(parts, int) or parts < 1 or layer.out_features % parts:
        raise ValueError(
            f"layer {layer.name} has {layer.out_features} outputs, which {parts!r} parts cannot "
            "share equally; pass a divisor"
        )
