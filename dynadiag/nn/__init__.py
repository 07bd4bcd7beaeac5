"""Sparse linear layers: one format a file, all with the contract of `SparseLinear`."""

from __future__ import annotations

from .base import SparseLinear
from .block import BlockLinear
from .butterfly import ButterflyLinear
from .condensed import CondensedLinear
from .csr import CSRLinear
from .dia_ust import DiaUstLinear
from .diagonal import DiagonalLinear
from .dynamic import DynamicLinear
from .dynamic_diagonal import DynamicDiagonalLinear
from .masked_dense import MaskedDenseLinear
from .nm import NMLinear

__all__ = [
    "BlockLinear",
    "ButterflyLinear",
    "CSRLinear",
    "CondensedLinear",
    "DiaUstLinear",
    "DiagonalLinear",
    "DynamicDiagonalLinear",
    "DynamicLinear",
    "MaskedDenseLinear",
    "NMLinear",
    "SparseLinear",
]
