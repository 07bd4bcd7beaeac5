"""Runs the CUDA sources on the CPU, so that every kernel is tested on machines without a card.

A source is compiled as C++ behind `shim/cuda.h`; the threads of a block are fibers, and buffers end
at pages that fault. What a card would do silently wrong is an error here (see `test_shim.py`).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import pytest
from torch import Tensor

from dynadiag.kernels.cuda.launcher import Argument, Grid
from dynadiag.kernels.cuda.variants import Variant

Order = Literal["forward", "reverse", "shuffled"]
Placement = Literal["begin", "end"]
ORDERS: tuple[Order, ...] = get_args(Order)
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)

SHIM = Path(__file__).parent / "shim"
# The sanitizer traps instead of reporting: `launch.h` turns that into an error. The fortified
# longjmp refuses to leave one stack for another.
FLAGS = [
    *("-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-w"),
    *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0", "-fno-strict-aliasing"),
    "-fsanitize=alignment,bounds,integer-divide-by-zero,shift,signed-integer-overflow",
    "-fsanitize-undefined-trap-on-error",
]
# Of a block, on any card (CUDA C++ Programming Guide, table of compute capabilities); of shared
# memory the 227 KiB of an H100 or H200.
MAX_THREADS = 1024
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_SHARED_BYTES = 227 * 1024


class ShimError(RuntimeError):
    """A kernel did what no kernel may; the message names it, the block and the thread."""


@dataclass(frozen=True)
class Unit:
    """Instances of kernels of one source, compiled together."""

    source: Path
    expressions: tuple[str, ...]

    @property
    def text(self) -> str:
        entries = (
            f'Instance<&{expression}>::named("{expression}")' for expression in self.expressions
        )
        return (
            f'#include "launch.h"\n#include "{self.source.name}"\n'
            "const std::vector<shim::Kernel>& shim::kernels() {\n"
            f"  static const std::vector<Kernel> all = {{{', '.join(entries)}}};\n"
            "  return all;\n}\n"
        )

    def key(self, compiler: str) -> str:
        """Return what changes with anything the library is made from."""
        version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
        digest = hashlib.sha256("\0".join([self.text, *FLAGS]).encode() + version)
        for folder in (SHIM, self.source.parent):
            for path in sorted([*folder.glob("*.h"), *folder.glob("*.cu*")]):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:24]


class _Buffer(ctypes.Structure):
    _fields_ = (("value", ctypes.c_longlong), ("bytes", ctypes.c_longlong))


class _Launch(ctypes.Structure):
    _fields_ = (
        ("expression", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint),
        ("shared_bytes", ctypes.c_uint),
        ("order", ctypes.c_int),
        ("placement", ctypes.c_int),
        ("count", ctypes.c_int),
        ("arguments", ctypes.POINTER(_Buffer)),
    )


def compiler() -> str:
    """Return the C++ compiler; skip the test if there is none."""
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        pytest.skip("no C++ compiler: install g++ or set CXX")
    return found


def compile_units(units: Sequence[Unit], folder: Path) -> Mapping[str, ctypes.CDLL]:
    """Return the library of each expression, compiling what the folder lacks, two at a time."""
    program = compiler()
    with ThreadPoolExecutor(2) as pool:
        libraries = pool.map(lambda unit: _compile(program, unit, folder), units)
        return {
            expression: library
            for unit, library in zip(units, libraries, strict=True)
            for expression in unit.expressions
        }


def _compile(program: str, unit: Unit, folder: Path) -> ctypes.CDLL:
    library = folder / f"{unit.key(program)}.so"
    if not library.exists():
        partial = library.with_suffix(f".{os.getpid()}")
        command = [program, *FLAGS, f"-I{SHIM}", f"-I{unit.source.parent}"]
        done = subprocess.run(
            [*command, "-x", "c++", "-", "-o", str(partial)],
            input=unit.text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        partial.replace(library)
    return ctypes.CDLL(str(library))


@dataclass
class ShimLauncher:
    """Runs kernels at once, on CPU tensors; under the protocol of `dynadiag.kernels.cuda.launcher`.

    Attributes:
        libraries: what `compile_units` returned.
        order: in which the blocks, the warps of a block and the lanes of a warp take their turns.
        placement: which end of each buffer touches memory that faults.
        shared_bytes: what a block may have of shared memory.
        launched: what ran, in order.
    """

    libraries: Mapping[str, ctypes.CDLL]
    order: Order = "forward"
    placement: Placement = "end"
    shared_bytes: int = MAX_SHARED_BYTES
    launched: list[Variant] = field(default_factory=list)

    def launch(
        self,
        variant: Variant,
        grid: Grid,
        block: int,
        shared_bytes: int,
        args: Sequence[Argument],
    ) -> None:
        """Run one kernel (see `Launcher`).

        Raises:
            ShimError: the kernel did what it may not, or a card would refuse the launch.
        """
        self.launched.append(variant)
        self.run(variant.expression, grid, block, shared_bytes, args)

    def run(
        self, expression: str, grid: Grid, block: int, shared_bytes: int, args: Sequence[Argument]
    ) -> None:
        """Run the instance of a kernel that the expression names."""
        _check_limits(grid, block)
        if not 0 <= shared_bytes <= self.shared_bytes:
            raise ShimError(f"{shared_bytes} bytes of shared memory exceed {self.shared_bytes}")
        buffers = (_Buffer * len(args))(*map(_buffer, args))
        launch = _Launch(
            expression.encode(),
            grid,
            block,
            shared_bytes,
            ORDERS.index(self.order),
            PLACEMENTS.index(self.placement),
            len(args),
            buffers,
        )
        message = ctypes.create_string_buffer(1000)
        entry = self.libraries[expression].shim_launch
        if entry(ctypes.byref(launch), message, ctypes.c_size_t(len(message))) != 0:
            raise ShimError(message.value.decode())


def _check_limits(grid: Grid, block: int) -> None:
    if not all(1 <= size <= limit for size, limit in zip(grid, MAX_GRID, strict=True)):
        raise ShimError(f"a grid of {grid} is not within {MAX_GRID}")
    if not 1 <= block <= MAX_THREADS:
        raise ShimError(f"a block of {block} threads is not within {MAX_THREADS}")


def _buffer(arg: Argument) -> _Buffer:
    if not isinstance(arg, Tensor):
        return _Buffer(arg or 0, -1)
    if not arg.is_contiguous():
        raise ShimError(f"a kernel was given a tensor of strides {arg.stride()}, not contiguous")
    return _Buffer(arg.data_ptr(), arg.numel() * arg.element_size())
