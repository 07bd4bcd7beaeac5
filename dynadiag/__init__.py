"""Diagonal-sparse neural network layers, trained sparse and measured honestly."""

from __future__ import annotations

from . import nn
from .formats import formats
from .functional import dense_to_diagonal, diagonal_linear, diagonal_to_dense
from .kernels import backends

__all__ = ["backends", "dense_to_diagonal", "diagonal_linear", "diagonal_to_dense", "formats", "nn"]
