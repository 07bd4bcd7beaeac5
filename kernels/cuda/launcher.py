"""Launching a compiled kernel on torch's current stream, through CuPy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor

from . import compiler
from .device import Device
from .stream import current_stream
from .variants import Variant

Argument = Tensor | int | None
Grid = tuple[int, int, int]

# More dynamic shared memory than this must be asked for (CUDA C++ Programming Guide, 16.4.3).
FREE_SHARED_BYTES = 48 * 1024
_INTEGERS: dict[str, Callable[[Any], np.integer[Any]]] = {"i": np.int32, "l": np.int64}


class Launcher(Protocol):
    """What the backend needs of a machine that runs kernels."""

    def launch(
        self,
        variant: Variant,
        grid: Grid,
        block: int,
        shared_bytes: int,
        args: Sequence[Argument],
    ) -> None:
        """Queue one kernel.

        Args:
            variant: what to run; its `arguments` tell the C++ types of `args`.
            grid: blocks along x, y and z.
            block: threads of a block, all along x.
            shared_bytes: dynamic shared memory of a block.
            args: tensors stand for the address of their first element, None for a null pointer;
                the first one is a tensor.
        """


class CupyLauncher:
    """Kernels compiled and loaded when first launched on a device, then kept.

    A launch neither waits for the device nor allocates on it, so all but the first may be captured
    in a CUDA graph.
    """

    def __init__(self) -> None:
        self._functions: dict[tuple[Variant, int], Any] = {}
        self._allowed: dict[tuple[Variant, int], int] = {}

    @functools.cached_property
    def _cupy(self) -> ModuleType:
        return compiler.import_cupy()

    def launch(
        self,
        variant: Variant,
        grid: Grid,
        block: int,
        shared_bytes: int,
        args: Sequence[Argument],
    ) -> None:
        """Queue one kernel on torch's current stream of the tensors' device (see `Launcher`)."""
        cupy, device = self._cupy, _tensor(args[0]).device.index
        with cupy.cuda.Device(device), current_stream(cupy, device):
            function = self._function((variant, device), shared_bytes)
            function(grid, (block,), pack(variant, args), shared_mem=shared_bytes)

    def _function(self, key: tuple[Variant, int], shared_bytes: int) -> Any:
        """Return a kernel that may have so much shared memory, on the current device."""
        if key not in self._functions:
            binary = compiler.load(key[0], Device.of(key[1]).arch)
            module = self._cupy.RawModule(path=str(binary.path))
            self._functions[key] = module.get_function(binary.name)
        function = self._functions[key]
        if shared_bytes > self._allowed.get(key, FREE_SHARED_BYTES):
            function.max_dynamic_shared_size_bytes = self._allowed[key] = shared_bytes
        return function


def pack(variant: Variant, args: Sequence[Argument]) -> tuple[Any, ...]:
    """Return arguments as CuPy passes them on: addresses, and integers of the C++ width."""
    return tuple(
        _pointer(arg) if letter == "p" else _INTEGERS[letter](arg)
        for letter, arg in zip(variant.arguments, args, strict=True)
    )


def _pointer(arg: Argument) -> int:
    return 0 if arg is None else _tensor(arg).data_ptr()


def _tensor(arg: Argument) -> Tensor:
    return cast(Tensor, arg)  # `isinstance` takes torch's own way, about 1 us
