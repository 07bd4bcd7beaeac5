"""What planning needs to know of a GPU."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import torch

# Shared memory that CUDA keeps in every block (CUDA C++ Programming Guide, 20.8.3).
RESERVED_SHARED_BYTES = 1024
# The oldest machine the sources are written for.
OLDEST = (7, 0)


@dataclass(frozen=True)
class Device:
    """One GPU, as far as plans depend on it.

    Attributes:
        name: as the driver gives it.
        arch: such as `sm_90`.
        sms: streaming multiprocessors.
        shared_per_block: bytes of dynamic shared memory a block may ask for.
        shared_per_sm: bytes of shared memory of a multiprocessor.
        registers_per_sm: 32-bit registers of a multiprocessor.
        threads_per_sm: threads resident on a multiprocessor.
    """

    name: str
    arch: str
    sms: int
    shared_per_block: int
    shared_per_sm: int
    registers_per_sm: int
    threads_per_sm: int

    @classmethod
    @functools.cache
    def of(cls, index: int) -> Device:
        """Return the CUDA device of this index."""
        found: Any = torch.cuda.get_device_properties(index)
        return cls(
            name=found.name,
            arch=f"sm_{found.major}{found.minor}",
            sms=found.multi_processor_count,
            shared_per_block=found.shared_memory_per_block_optin,
            shared_per_sm=found.shared_memory_per_multiprocessor,
            registers_per_sm=found.regs_per_multiprocessor,
            threads_per_sm=found.max_threads_per_multi_processor,
        )

    @property
    def slug(self) -> str:
        """The name for files, such as `nvidia-h200`."""
        return "-".join(re.findall(r"[a-z0-9]+", self.name.lower()))


def unavailable() -> str | None:
    """Return why there is no GPU that the kernels run on, or None."""
    if not torch.cuda.is_available():
        return "no CUDA device: torch sees none"
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    if capability < OLDEST:
        found, oldest = (f"sm_{major}{minor}" for major, minor in (capability, OLDEST))
        return f"{name} is {found}, but the kernels need {oldest} or newer"
    return None
