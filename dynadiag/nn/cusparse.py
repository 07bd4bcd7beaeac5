"""cuSPARSE's product of a sparse and a dense matrix (SpMM), by CuPy's bindings."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynadiag.kernels.cuda.stream import current_stream
from dynadiag.nn.third_party import explained, extra, name_of

# Values of the enumerations of cusparse.h and library_types.h.
DATA_TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 14}
ORDERS = {"row": 2, "column": 1}
INT32 = 2
_WITHOUT_FLOAT16 = ("13.1", "13.2")  # their cuSPARSE rejects SpMM in float16 (CUDA.jl issue 3253)

# cuSPARSE reads alpha and beta, of the type it computes in, from host memory.
_ONE_ZERO: dict[torch.dtype, np.ndarray[Any, Any]] = {
    torch.float32: np.array([1, 0], np.float32),
    torch.float64: np.array([1, 0], np.float64),
}

Describe = Callable[[Any], int]


@dataclass(frozen=True)
class Scalars:
    """The type cuSPARSE computes in, and the addresses of one and zero in that type."""

    compute: int
    one: int
    zero: int


@functools.cache
def scalars_for(dtype: torch.dtype) -> Scalars:
    """Return what goes with values of a dtype: float64 for float64, float32 for all others."""
    wide = dtype if dtype == torch.float64 else torch.float32
    one = _ONE_ZERO[wide].ctypes.data
    return Scalars(DATA_TYPES[wide], one, one + wide.itemsize)


@functools.cache
def bindings() -> tuple[ModuleType, ModuleType]:
    """Return CuPy and its bindings of cuSPARSE.

    Raises:
        RuntimeError: CuPy or the library is missing; the message names the extra to install.
    """
    try:
        cupy = importlib.import_module("cupy")
        return cupy, importlib.import_module("cupy_backends.cuda.libs.cusparse")
    except ImportError as error:
        first = str(error).partition("\n")[0]
        raise RuntimeError(f"cuSPARSE needs CuPy; {extra()} ({first})") from error


def why_not(device: str, dtype: torch.dtype | None) -> str | None:
    """Return why cuSPARSE cannot multiply on such a device in such a dtype, or None."""
    if device != "cuda":
        return f"cuSPARSE runs on cuda, not on {device}"
    if dtype is not None and dtype not in DATA_TYPES:
        return f"cuSPARSE takes {', '.join(map(name_of, DATA_TYPES))}, not {name_of(dtype)}"
    return rejects_float16(dtype) or _missing()


def rejects_float16(dtype: torch.dtype | None) -> str | None:
    """Return why this version of CUDA cannot multiply CSR matrices of a dtype, or None."""
    version = ".".join((torch.version.cuda or "").split(".")[:2])
    if dtype != torch.float16 or version not in _WITHOUT_FLOAT16:
        return None
    return f"cuSPARSE of CUDA {version} rejects float16; use bfloat16, or torch for CUDA 13.0"


@functools.cache
def _missing() -> str | None:
    try:
        bindings()
    except RuntimeError as error:
        return str(error)
    return None


def multiply(describe: Describe, height: int, dense: Tensor, algorithm: int, order: str) -> Tensor:
    """Return the product of a sparse matrix and a dense one, on torch's current stream.

    Args:
        describe: makes the descriptor of the sparse matrix, given the bindings.
        height: rows of the sparse matrix.
        dense: (columns of the sparse matrix, batch); copied where its strides do not fit `order`.
        algorithm: a value of cusparseSpMMAlg_t.
        order: `row` or `column`, of `dense` and of the result.

    Returns:
        (height, batch) in that order.

    Raises:
        RuntimeError: cuSPARSE refuses the call.
    """
    _, api = bindings()
    dense = ordered(dense, order)
    out = empty(height, order, dense)
    with explained("cuSPARSE SpMM"), handle(dense.device) as handle_, ExitStack() as release:
        matrix = describe(api)
        release.callback(api.destroySpMat, matrix)
        product = arguments(handle_, matrix, dense, out, algorithm, order, release)
        workspace = workspace_for(product, dense.device)
        api.spMM(*product, workspace.data_ptr())
    return out


def arguments(
    handle: int,
    matrix: int,
    dense: Tensor,
    out: Tensor,
    algorithm: int,
    order: str,
    release: ExitStack,
) -> tuple[int, ...]:
    """Return what all functions of SpMM take, but for the workspace.

    Args:
        handle: of the library.
        matrix: descriptor of the sparse matrix.
        dense: in `order`.
        out: in `order`.
        algorithm: a value of cusparseSpMMAlg_t.
        order: of both dense matrices.
        release: destroys their descriptors when it closes.
    """
    scalars = scalars_for(dense.dtype)
    b, c = (dense_matrix(tensor, order, release) for tensor in (dense, out))
    return handle, 0, 0, scalars.one, matrix, b, scalars.zero, c, scalars.compute, algorithm


def workspace_for(product: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the memory a product asks for, from torch's allocator."""
    _, api = bindings()
    return torch.empty(api.spMM_bufferSize(*product), dtype=torch.uint8, device=device)


@contextmanager
def handle(device: torch.device) -> Iterator[int]:
    """Lend CuPy's cuSPARSE handle for a device, set to torch's current stream.

    CuPy's wrappers set the handle to CuPy's current stream in every call, so it is that which
    changes.
    """
    cupy, _ = bindings()
    with cupy.cuda.Device(device.index), current_stream(cupy, device):
        yield cupy.cuda.device.get_cusparse_handle()


def use_current_stream(handle: int, device: torch.device) -> None:
    """Set a handle to torch's current stream, for a call by ctypes, where no wrapper does it."""
    _, api = bindings()
    api.setStream(handle, torch.cuda.current_stream(device).cuda_stream)


def dense_matrix(tensor: Tensor, order: str, release: ExitStack) -> int:
    """Return the descriptor of a matrix without gaps, destroyed when `release` closes."""
    _, api = bindings()
    height, width = tensor.shape
    pitch = width if order == "row" else height
    pointer, data_type = tensor.data_ptr(), DATA_TYPES[tensor.dtype]
    descriptor: int = api.createDnMat(height, width, pitch, pointer, data_type, ORDERS[order])
    release.callback(api.destroyDnMat, descriptor)
    return descriptor


def ordered(dense: Tensor, order: str) -> Tensor:
    """Return a matrix without gaps in an order, copied only if it is not so already."""
    return dense.contiguous() if order == "row" else dense.t().contiguous().t()


def empty(height: int, order: str, dense: Tensor) -> Tensor:
    """Return an uninitialised result of a product with `dense`, in an order."""
    width = dense.shape[1]
    strides = (width, 1) if order == "row" else (1, height)
    return dense.new_empty_strided((height, width), strides)
