"""Torch's current stream, as CuPy takes it."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch


@dataclass(frozen=True)
class _Stream:
    """A stream by its handle, under the protocol CuPy reads."""

    handle: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def current_stream(cupy: ModuleType, device: torch.device | int) -> Any:
    """Return torch's current stream on a device as a stream of CuPy, a context manager.

    To be asked for at each use: one that was kept would miss a graph being captured.
    """
    return cupy.cuda.Stream.from_external(_Stream(torch.cuda.current_stream(device).cuda_stream))
