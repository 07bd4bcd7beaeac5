"""What compiled kernels take of the machine: read from the compiler's log, and as a table."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENTRY = re.compile(r"Compiling entry function '(\S+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Resources:
    """What one kernel takes.

    Attributes:
        registers: 32-bit registers of a thread.
        shared_bytes: static shared memory of a block.
        spill_stores: bytes a thread writes for want of registers.
        spill_loads: bytes a thread reads back.
        stack: bytes of a thread's stack frame.
    """

    registers: int
    shared_bytes: int
    spill_stores: int
    spill_loads: int
    stack: int


def read_log(log: str) -> dict[str, Resources]:
    """Return what each kernel takes, by its name, from the log of `ptxas -v`."""
    parts = _ENTRY.split(log)[1:]
    return {name: _read(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _read(text: str) -> Resources:
    # The first match is the kernel's own: functions that were not inlined follow it.
    stack, stores, loads = map(int, _search(_STACK, text))
    (registers,) = map(int, _search(_REGISTERS, text))
    shared = _SHARED.search(text)
    return Resources(registers, int(shared[1]) if shared else 0, stores, loads, stack)


def _search(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.search(text)
    if found is None:
        raise ValueError(f"the log of ptxas lacks '{pattern.pattern}': {text[:200]}")
    return found.groups()
