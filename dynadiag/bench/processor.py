"""Facts about the CPU and its memory, from what the operating system shows without tools."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_INSTRUCTION_SETS = (
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_bf16",
    "amx_tile",
    "asimd",
    "bf16",
    "sve",
    "sve2",
)


def read(path: str | Path) -> str | None:
    """Content of a small system file, or None."""
    with suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="utf-8").strip()
    return None


def name() -> str:
    """The processor's product name."""
    listed = re.search(r"^model name\s*:\s*(.+)$", read("/proc/cpuinfo") or "", re.MULTILINE)
    return listed[1] if listed else platform.processor() or platform.machine() or "unknown"


def usable_cores() -> int:
    """Logical cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def instruction_sets() -> list[str]:
    """The vector and matrix extensions the kernels care about."""
    listed = re.search(
        r"^(?:flags|Features)\s*:\s*(.+)$", read("/proc/cpuinfo") or "", re.MULTILINE
    )
    present = set(listed[1].split()) if listed else set()
    return [extension for extension in _INSTRUCTION_SETS if extension in present]


def caches() -> dict[str, int]:
    """Bytes of the first core's data caches: ``l1``, ``l2``, ``l3``; empty where not shown."""
    sizes: dict[str, int] = {}
    for folder in sorted(_CACHES.glob("index*")):
        size = re.fullmatch(r"(\d+)([KMG]?)", read(folder / "size") or "")
        if size and read(folder / "type") != "Instruction":
            sizes[f"l{read(folder / 'level')}"] = int(size[1]) * _FACTORS[size[2]]
    return sizes


def memory_bytes() -> int | None:
    """Physical memory."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def load_average() -> list[float] | None:
    """Mean number of running processes over 1, 5 and 15 minutes."""
    with suppress(AttributeError, OSError):
        return list(os.getloadavg())
    return None
