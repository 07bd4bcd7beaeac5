"""The rival of the same structure: diagonals multiplied by the kernels nvmath generates."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Hashable
from functools import partial
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

from dynadiag.nn.diagonal import DiagonalLinear
from dynadiag.nn.kept import kept
from dynadiag.nn.third_party import explained, name_of

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class DiaUstLinear(DiagonalLinear):
    """A diagonal layer multiplied by nvmath's universal sparse tensor, forward only.

    nvmath stores plain diagonals, so each wrapped one becomes two, padded to the full length: twice
    the values. Its kernel is the one that the environment variable UST_CODEGEN_KERNEL (0-27) names
    when the process starts; compare the best of all. The tensor is built once for each version of
    the weight.
    """

    format: ClassVar[str] = "dia_ust"
    _pattern: Hashable = object()

    @classmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        device: str = "cpu",
    ) -> str | None:
        """Return why nvmath cannot multiply by such a layer here, or None."""
        if device != "cuda":
            return f"nvmath's universal sparse tensor runs on cuda, not on {device}"
        if dtype is not None and dtype not in _DTYPES:
            known = ", ".join(map(name_of, _DTYPES))
            return f"nvmath's universal sparse tensor takes {known}, not {name_of(dtype)}"
        return _missing()

    @property
    def config(self) -> str:
        """The format and the number of diagonals before they are split."""
        return f"nvmath UST DIAI num_diagonals={self.num_diagonals}"

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b; see `SparseLinear.forward`.

        Raises:
            RuntimeError: a gradient is asked for, or nvmath is missing or refuses the call.
        """
        if torch.is_grad_enabled() and (x.requires_grad or self.values.requires_grad):
            raise RuntimeError("nvmath's DIA product has no gradients; call it under no_grad()")
        return super(DiagonalLinear, self).forward(x)

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        reason = self.why_not(
            self.in_features, self.out_features, self.sparsity, x.dtype, device=x.device.type
        )
        if reason is not None:
            raise RuntimeError(reason)
        with explained("nvmath's DIA product"):
            derive = partial(_Diagonals, self, values.dtype)
            matrix = kept("dia_ust", self.values, values, self._pattern, derive)
            y = matrix.multiply(x.t().contiguous()).t()
        return y if bias is None else y + bias

    def _pattern_changed(self) -> None:
        self._pattern = object()


@functools.cache
def _library() -> tuple[ModuleType, ModuleType]:
    return importlib.import_module("nvmath.sparse"), importlib.import_module("nvmath.sparse.ust")


@functools.cache
def _missing() -> str | None:
    try:
        _library()
    except ImportError as error:
        message = str(error).partition("\n")[0]
        return f"the DIA rival needs nvmath; pip install 'nvmath-python>=1.0' ({message})"
    return None


class _Diagonals:
    """The weight as nvmath stores it, and the products planned with it, by batch."""

    def __init__(self, layer: DiaUstLinear, dtype: torch.dtype) -> None:
        self._sparse, self._ust = _library()
        entries = layer.weight.detach().to(dtype).to_sparse_coo().coalesce()
        plain = self._ust.Tensor.from_package(entries)
        self._matrix = plain.convert(tensor_format=self._ust.NamedFormats.DIAI)
        self._height = layer.out_features
        self._planned: dict[int, Any] = {}

    def multiply(self, dense: Tensor) -> Tensor:
        """Return W · dense (in, batch), in a tensor of its own.

        nvmath's own layer (TorchUST) returns the same output tensor at each call, so this goes one
        level below. The kernel adds to its output, hence zeros.
        """
        batch = dense.shape[1]
        out = dense.new_zeros(self._height, batch)
        b, c = (self._ust.Tensor.from_package(tensor) for tensor in (dense, out))
        if batch in self._planned:
            self._planned[batch].reset_operands_unchecked(a=self._matrix, b=b, c=c)
        else:
            self._planned[batch] = self._sparse.Matmul(self._matrix, b, c, beta=1.0)
            self._planned[batch].plan()
        self._planned[batch].execute()
        self._planned[batch].release_operands()
        return out
