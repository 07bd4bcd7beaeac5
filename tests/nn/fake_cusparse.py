"""A cuSPARSE that multiplies in host memory, reached as the real one is: CuPy's bindings, ctypes.

It reads the tensors by the addresses it is given, so that a wrong size, order, type or place of an
argument gives a wrong product. It also checks what only a card would notice.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

DTYPES = {0: torch.float32, 1: torch.float64, 2: torch.float16, 14: torch.bfloat16}
HANDLE = 77
ROW, COLUMN = 2, 1
CSR, BSR, BLOCKED_ELL = (4, 6, 12), (14,), (13,)


class CuSparseError(RuntimeError):
    """As CuPy's."""


def memory(address: int, count: int, dtype: torch.dtype) -> Tensor:
    """The tensor that lies at an address."""
    raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(raw, dtype=dtype)


@dataclass
class Sparse:
    dense: Tensor
    algorithms: tuple[int, ...]
    write: Any = None
    set_values: Any = None
    prepared: tuple[int, ...] = ()


@dataclass
class FakeCusparse:
    """Stands for CuPy, for its module of bindings, and for the library under ctypes.

    Attributes:
        alive: descriptors that were created and not yet destroyed.
        refused: algorithms that are not supported.
        torch_stream: handle of torch's current stream.
        seen: (stream, algorithm) of each product.
        preparations: how often a pattern was analysed.
    """

    alive: dict[int, Any] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    preparations: int = 0
    torch_stream: int = 5
    handle_stream: int = 0
    cupy_streams: list[int] = field(default_factory=lambda: [0])
    devices: list[int | None] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)
    names: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def __post_init__(self) -> None:
        stream = SimpleNamespace(from_external=self._from_external)
        device = SimpleNamespace(get_cusparse_handle=lambda: HANDLE)
        self.cuda = SimpleNamespace(Device=self._device, Stream=stream, device=device)
        created = ("cusparseCreateBsr", "cusparseCreateBlockedEll")
        for name in (*created, "cusparseSDDMM", "cusparseSpMM_preprocess"):
            setattr(self, name, Function(getattr(self, f"_{name}")))
        self.cusparseSDDMM_bufferSize = Function(self._sddmm_buffer_size)
        self.cusparseGetErrorString = Function(lambda status: b"operation not supported")

    @contextmanager
    def _device(self, index: int | None) -> Iterator[None]:
        self.devices.append(index)
        yield

    @contextmanager
    def _from_external(self, stream: Any) -> Iterator[None]:
        version, pointer = stream.__cuda_stream__()
        assert version == 0
        self.cupy_streams.append(pointer)
        yield
        self.cupy_streams.pop()

    def _new(self, thing: Any) -> int:
        name = next(self.names)
        self.alive[name] = thing
        return name

    def createDnMat(
        self, rows: int, columns: int, pitch: int, address: int, data_type: int, order: int
    ) -> int:
        assert pitch == {ROW: columns, COLUMN: rows}[order]
        flat = memory(address, rows * columns, DTYPES[data_type])
        return self._new(flat.view(rows, columns) if order == ROW else flat.view(columns, rows).t())

    def destroyDnMat(self, name: int) -> None:
        assert isinstance(self.alive.pop(name), Tensor)

    def destroySpMat(self, name: int) -> None:
        assert isinstance(self.alive.pop(name), Sparse)

    def createCsr(
        self,
        rows: int,
        columns: int,
        nnz: int,
        *places: int,
    ) -> int:
        starts_at, columns_at, values_at, starts_type, columns_type, base, data_type = places
        assert (starts_type, columns_type, base) == (2, 2, 0)
        starts = memory(starts_at, rows + 1, torch.int32)
        where = memory(columns_at, nnz, torch.int32)
        values = memory(values_at, nnz, DTYPES[data_type])
        row = torch.repeat_interleave(torch.arange(rows), starts.diff())
        matrix = Sparse(torch.zeros(rows, columns, dtype=torch.float64), CSR)

        def set_values(address: int) -> None:
            values = memory(address, nnz, DTYPES[data_type])
            matrix.dense[row, where.long()] = values.double()

        def write(products: Tensor) -> None:
            values.copy_(products[row, where.long()])

        set_values(values_at)
        matrix.write, matrix.set_values = write, set_values
        return self._new(matrix)

    def spMatSetValues(self, name: int, address: int) -> None:
        self.alive[name].set_values(address)

    def _cusparseCreateBsr(self, result: Any, *arguments: int) -> int:
        rows, columns, count, height, width, starts_at, columns_at, values_at, *types = arguments
        starts_type, columns_type, base, data_type, order = types
        assert (starts_type, columns_type, base, order) == (2, 2, 0, ROW)
        starts = memory(starts_at, rows + 1, torch.int32)
        where = memory(columns_at, count, torch.int32).long()
        blocks = memory(values_at, count * height * width, DTYPES[data_type]).double()
        row = torch.repeat_interleave(torch.arange(rows), starts.diff())
        grid = torch.zeros(rows, columns, height, width, dtype=torch.float64)
        grid[row, where] = blocks.view(count, height, width)
        dense = grid.transpose(1, 2).reshape(rows * height, columns * width)
        result._obj.value = self._new(Sparse(dense, BSR))
        return 0

    def _cusparseCreateBlockedEll(self, result: Any, *arguments: int) -> int:
        rows, columns, side, width, columns_at, values_at, index_type, base, data_type = arguments
        assert (index_type, base) == (2, 0)
        across = width // side
        where = memory(columns_at, rows // side * across, torch.int32).view(-1, across)
        values = memory(values_at, rows * width, DTYPES[data_type]).double()
        blocks = values.view(rows // side, side, across, side).transpose(1, 2)
        grid = torch.zeros(rows // side, columns // side, side, side, dtype=torch.float64)
        for row, slot in (where >= 0).nonzero().tolist():
            grid[row, int(where[row, slot])] = blocks[row, slot]
        dense = grid.transpose(1, 2).reshape(rows, columns)
        result._obj.value = self._new(Sparse(dense, BLOCKED_ELL))
        return 0

    def spMM_bufferSize(self, *arguments: int) -> int:
        assert len(arguments) == 10
        return 8

    def spMM(self, *arguments: int) -> None:
        self.handle_stream = self.cupy_streams[-1]  # CuPy's wrappers do this in every call
        handle, op_a, op_b, alpha, a, b, beta, c, compute, algorithm, workspace = arguments
        self._check(handle, (op_a, op_b), alpha, beta, compute, workspace)
        matrix = self.alive[a]
        assert algorithm in matrix.algorithms
        if algorithm in self.refused:
            raise CuSparseError("CUSPARSE_STATUS_NOT_SUPPORTED: operation not supported\nmore")
        self.seen.append((self.handle_stream, algorithm))
        if matrix.prepared:
            assert matrix.prepared == (algorithm, workspace, *self.alive[b].shape)
        self.alive[c].copy_(matrix.dense @ self.alive[b].double())

    def _cusparseSpMM_preprocess(self, *arguments: int) -> int:
        handle, op_a, op_b, alpha, a, b, beta, _, compute, algorithm, workspace = arguments
        self._check(handle, (op_a, op_b), alpha, beta, compute, workspace)
        assert self.handle_stream == self.torch_stream
        self.preparations += 1
        self.alive[a].prepared = (algorithm, workspace, *self.alive[b].shape)
        return 0

    def setStream(self, handle: int, stream: int) -> None:
        assert handle == HANDLE
        self.handle_stream = stream

    def _sddmm_buffer_size(self, *arguments: Any) -> int:
        arguments[-1]._obj.value = 8
        return 0

    def _cusparseSDDMM(self, *arguments: int) -> int:
        handle, op_a, op_b, alpha, a, b, beta, c, compute, algorithm, workspace = arguments
        self._check(handle, (op_a, op_b), alpha, beta, compute, workspace)
        if algorithm in self.refused:
            return 10
        self.seen.append((self.handle_stream, algorithm))
        self.alive[c].write(self.alive[a].double() @ self.alive[b].double())
        return 0

    def _check(
        self,
        handle: int,
        operations: tuple[int, int],
        alpha: int,
        beta: int,
        compute: int,
        workspace: int,
    ) -> None:
        assert handle == HANDLE
        assert operations == (0, 0)
        assert workspace
        assert DTYPES[compute] in (torch.float32, torch.float64)
        scalars = [float(memory(at, 1, DTYPES[compute])) for at in (alpha, beta)]
        assert scalars == [1.0, 0.0]


class Function:
    """A function of a library under ctypes: called with what `argtypes` lets through."""

    argtypes: tuple[type, ...]
    restype: type

    def __init__(self, body: Any) -> None:
        self._body = body

    def __call__(self, *arguments: Any) -> Any:
        return self._body(*arguments)
