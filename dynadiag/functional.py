"""Products with a weight held as wrapped diagonals, and the way to and from dense matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from . import geometry, operators
from .kernels.activation import check_activation

_INDEX_DTYPES = (torch.int32, torch.int64)


def _as_int32(offsets: Tensor, out_features: int, in_features: int) -> Tensor:
    """Return the offsets as int32; on the CPU whoever reads them checks their values."""
    if offsets.dtype not in _INDEX_DTYPES:
        raise TypeError(f"offsets are {offsets.dtype}, but name diagonals; pass int32")
    if offsets.ndim != 1:
        raise ValueError(f"offsets have shape {tuple(offsets.shape)}, but must be one list (K,)")
    if offsets.dtype == torch.int64 and offsets.device.type == "cpu":
        geometry.check_offsets(offsets, out_features, in_features)  # the cast would wrap them
    return offsets.int()


def _check_values(values: Tensor, offsets: Tensor, out_features: int, in_features: int) -> None:
    k = offsets.shape[0]
    geometry.check_num_diagonals(out_features, in_features, k)
    expected = (k, min(out_features, in_features))
    if values.shape != expected:
        raise ValueError(
            f"values have shape {tuple(values.shape)}, but {k} offsets of a "
            f"{out_features} x {in_features} matrix need {expected}"
        )
    _check_device("offsets", offsets, values)


def _check_device(name: str, tensor: Tensor, values: Tensor) -> None:
    if tensor.device != values.device:
        raise ValueError(
            f"{name} is on {tensor.device}, but values on {values.device}; move one with .to()"
        )


def _check_like(name: str, tensor: Tensor, values: Tensor) -> None:
    if tensor.dtype != values.dtype:
        raise TypeError(
            f"{name} is {tensor.dtype}, but values are {values.dtype}; convert one with .to()"
        )
    _check_device(name, tensor, values)


def _fit(x: Tensor, values: Tensor, offsets: Tensor, bias: Tensor | None, m: int) -> bool:
    """Return whether the operands fit each other: one quick test, `_explain` says what is wrong."""
    if x.ndim == 0 or offsets.ndim != 1:
        return False
    n, k = x.shape[-1], len(offsets)
    dtype, device = values.dtype, values.device
    return (
        m >= 1
        and n >= 1
        and 1 <= k <= max(m, n)
        and values.shape == (k, min(m, n))
        and offsets.dtype == torch.int32
        and x.dtype == dtype
        and x.device == device
        and offsets.device == device
        and (bias is None or (bias.dtype == dtype and bias.device == device and bias.shape == (m,)))
    )


def _explain(x: Tensor, values: Tensor, offsets: Tensor, bias: Tensor | None, m: int) -> None:
    """Raise what is wrong with operands that do not fit."""
    _check_values(values, offsets, m, x.shape[-1])
    _check_like("x", x, values)
    if bias is not None:
        _check_like("bias", bias, values)
        if bias.shape != (m,):
            raise ValueError(f"bias has shape {tuple(bias.shape)}, but must be ({m},)")


def diagonal_linear(
    x: Tensor,
    values: Tensor,
    offsets: Tensor,
    bias: Tensor | None = None,
    *,
    out_features: int,
    activation: str | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return f(x Wᵀ + b) for a W of wrapped diagonals; differentiable in x, values and bias.

    Forward and both gradients touch only the K diagonals: no dense weight is formed unless the
    `dense` backend is chosen, and sums are in float32 at least (arXiv 2506.11449, eq. 2-4; index
    maps of its appendix A, see `dynadiag.geometry`).

    Args:
        x: (..., in_features); any leading dimensions, any strides, possibly empty.
        values: (K, D), D = min(out_features, in_features).
        offsets: (K,) int32, distinct, in [0, max(out_features, in_features)), in any order.
        bias: (out_features,) or None.
        out_features: M, the rows of W.
        activation: f: `relu`, `gelu` (the exact one) or `silu`; None for f(y) = y. Part of the
            kernel on CUDA where no gradient is needed.
        backend: `auto`, or a name of `dynadiag.backends()`. `auto` obeys DYNADIAG_BACKEND.

    Returns:
        (..., out_features), in the dtype of x, or of autocast where that is on.

    Raises:
        ValueError: shapes, devices or offsets do not fit (offsets are read on the CPU only), the
            activation is unknown, or the backend is or does not take these tensors.
        TypeError: dtypes differ.
    """
    device = x.device.type
    # As torch's own products, float64 stays what it is under autocast.
    if device != "meta" and torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        x, values = x.to(dtype), values.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if not _fit(x, values, offsets, bias, out_features):
        if x.ndim == 0:
            raise ValueError("x is a scalar, but needs a last dimension of in_features")
        offsets = _as_int32(offsets, out_features, x.shape[-1])
        _explain(x, values, offsets, bias, out_features)
    check_activation(activation)
    return operators.linear(x, values, offsets, bias, out_features, backend, activation)


def diagonal_to_dense(
    values: Tensor, offsets: Tensor, *, out_features: int, in_features: int
) -> Tensor:
    """Return the dense (out_features, in_features) matrix of these diagonals.

    Differentiable in values, (K, D). Raises as `diagonal_linear` does.
    """
    offsets = _as_int32(offsets, out_features, in_features)
    _check_values(values, offsets, out_features, in_features)
    if offsets.device.type == "cpu" and not torch.compiler.is_compiling():
        geometry.check_offsets(offsets, out_features, in_features)
    weight: Tensor = torch.ops.dynadiag.diagonal_to_dense(
        values, offsets, out_features, in_features
    )
    return weight


def dense_to_diagonal(weight: Tensor, offsets: Tensor) -> Tensor:
    """Return the (K, D) values that a dense (out_features, in_features) matrix has on diagonals.

    Differentiable in weight. Raises as `diagonal_linear` does.
    """
    if weight.ndim != 2:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, but must be a matrix")
    offsets = _as_int32(offsets, weight.shape[0], weight.shape[1])
    geometry.check_num_diagonals(weight.shape[0], weight.shape[1], offsets.shape[0])
    if offsets.device.type == "cpu" and not torch.compiler.is_compiling():
        geometry.check_offsets(offsets, weight.shape[0], weight.shape[1])
    values: Tensor = torch.ops.dynadiag.dense_to_diagonal(weight, offsets)
    return values
