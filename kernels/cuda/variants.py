"""The kernels in the CUDA sources, and every instance of their templates that may be launched."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# dtypes and their names in namespace dynadiag (numeric.cuh).
ELEMENTS = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
# Batch rows of one column lie in one vector of at most this many bytes (Pack in numeric.cuh).
VECTOR_BYTES = 16
# Odd: an even number would have bank conflicts (tile.cuh).
PANELS = (1, 3, 5, 7)


@dataclass(frozen=True)
class Kernel:
    """One kernel of the sources.

    Attributes:
        source: the file that defines it.
        parameters: template parameters, as attributes of `Variant`.
        arguments: a letter an argument: p pointer, i int, l long long.
    """

    source: str
    parameters: tuple[str, ...]
    arguments: str


KERNELS = {
    "multiply": Kernel("multiply.cu", ("element", "rows", "panels", "scatter"), "ppppppiiiii"),
    "grad_values": Kernel("grad_values.cu", ("element", "panels"), "ppppiiii"),
    "reduce": Kernel("reduce.cu", ("element",), "pppliii"),
    "naive_multiply": Kernel("naive.cu", ("element", "scatter"), "pppppiiiii"),
    "naive_grad_values": Kernel("naive.cu", ("element",), "ppppiiii"),
    "shared_rate": Kernel("shared_rate.cu", (), "pi"),
}


@dataclass(frozen=True)
class Variant:
    """One instance of a kernel's template.

    Attributes:
        kernel: a key of KERNELS.
        dtype: of the operands; sums are float32.
        rows: R, batch rows in one vector.
        panels: G, vectors a column of the tile holds; a tile has G·R batch rows.
        scatter: whether outputs are the longer side (see multiply.cu).
    """

    kernel: str
    dtype: torch.dtype
    rows: int = 0
    panels: int = 0
    scatter: bool = False

    @property
    def element(self) -> str:
        """The C++ name of the dtype."""
        return f"dynadiag::{ELEMENTS[self.dtype]}"

    @property
    def source(self) -> str:
        """The name of the file that defines the kernel."""
        return KERNELS[self.kernel].source

    @property
    def arguments(self) -> str:
        """A letter an argument: p pointer, i int, l long long."""
        return KERNELS[self.kernel].arguments

    @property
    def expression(self) -> str:
        """The instance in C++, such as `dynadiag::reduce<dynadiag::float16>`."""
        chosen = [getattr(self, name) for name in KERNELS[self.kernel].parameters]
        arguments = f"<{', '.join(map(_literal, chosen))}>" if chosen else ""
        return f"dynadiag::{self.kernel}{arguments}"


def _literal(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def full_rows(dtype: torch.dtype) -> int:
    """Return the batch rows that fill one vector of 16 bytes: 4, or 8 of 16 bits."""
    return VECTOR_BYTES // dtype.itemsize


def row_counts(dtype: torch.dtype) -> tuple[int, ...]:
    """Return the batch rows a vector may hold, smallest first: 1, 2, 4 and, of 16 bits, 8."""
    return tuple(2**power for power in range(full_rows(dtype).bit_length()))


def _multiplies(dtype: torch.dtype) -> list[Variant]:
    full = full_rows(dtype)
    tiles = [(rows, 1) for rows in row_counts(dtype)[:-1]] + [(full, panels) for panels in PANELS]
    return [
        Variant("multiply", dtype, rows, panels, scatter)
        for scatter in (False, True)
        for rows, panels in tiles
    ]


def _all_of(dtype: torch.dtype) -> list[Variant]:
    return [
        *_multiplies(dtype),
        *(Variant("grad_values", dtype, full_rows(dtype), panels) for panels in PANELS),
        Variant("reduce", dtype),
        *(Variant("naive_multiply", dtype, scatter=scatter) for scatter in (False, True)),
        Variant("naive_grad_values", dtype),
    ]


# What the products are made of.
ALL = tuple(variant for dtype in ELEMENTS for variant in _all_of(dtype))
# Measures how fast a card reads shared memory.
SHARED_RATE = Variant("shared_rate", torch.float32)
