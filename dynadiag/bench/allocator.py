"""What the C library does with freed memory, for which a large output may pay at every call."""

from __future__ import annotations

import ctypes
import platform

# The parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> str:
    """Have this process keep the memory it frees, and return in words what it now does.

    By default glibc hands large blocks back to the system or keeps them, by thresholds that move
    with the history of the process: the same layer then pays for fresh pages at every call or at
    none. A 19 MB output costs 4,728 page faults, 5 ms where the product takes 6 (measured on two
    cores of an AMD EPYC), so a run would tell which arm came after which allocation. Kept memory
    is what training loops and caching allocators have.
    """
    if platform.libc_ver()[0] != "glibc":
        return "as the C library has it; only glibc can be told"
    mallopt = ctypes.CDLL(None).mallopt
    if mallopt(_TRIM_THRESHOLD, _NEVER) == 1 and mallopt(_MMAP_MAX, 0) == 1:
        return "kept"
    return "as glibc has it; it refused"
