"""Ceilings of the machine, measured in a few seconds: what a roofline is drawn against."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

_COPY_BYTES = 2**27  # beyond the last-level cache of most machines
_GEMM_SIZES = (128, 256, 512, 1024)


def self_checks(budget_s: float = 2.5) -> dict[str, Any]:
    """Copy bandwidth, GEMM rates and timer resolution of the CPU.

    Args:
        budget_s: seconds to spend in all; each check gets an equal share.

    Returns:
        ``copy_gbps`` (read and written, 1e9 bytes/s) with one and with all threads,
        ``gemm_gflops`` (1e9 FLOP/s) by dtype, ``timer_resolution_s``, ``threads``, ``seconds``.
        Each is the best of the repeats: a ceiling, not a typical value.
    """
    start = time.perf_counter()
    share = budget_s / 4
    with _threads(1):
        one = _copy_gbps(share)
    return {
        "copy_gbps": {"one_thread": one, "all_threads": _copy_gbps(share)},
        "gemm_gflops": {
            "float32": _gemm_gflops(torch.float32, share),
            "bfloat16": _gemm_gflops(torch.bfloat16, share),
        },
        "timer_resolution_s": timer_resolution(),
        "threads": torch.get_num_threads(),
        "seconds": time.perf_counter() - start,
    }


def timer_resolution() -> float:
    """Seconds of the smallest step the clock was seen to make."""
    readings = [time.perf_counter() for _ in range(1000)]
    steps = (after - before for before, after in pairwise(readings))
    return min(step for step in steps if step > 0)


def _copy_gbps(budget_s: float) -> float:
    source, target = torch.ones(_COPY_BYTES // 4), torch.zeros(_COPY_BYTES // 4)
    return 2 * _COPY_BYTES / _best(lambda: target.copy_(source), budget_s) * 1e-9


def _gemm_gflops(dtype: torch.dtype, budget_s: float) -> float:
    """Best rate over square sizes that grow while the budget lasts.

    Without hardware for `dtype` a GEMM may run a thousand times slower than with it.
    """
    best, seconds, deadline = 0.0, 0.0, time.perf_counter() + budget_s
    for size in _GEMM_SIZES:
        left = deadline - time.perf_counter()
        if 16 * seconds > left:  # the next size is 8 times the work, and runs at least twice
            break
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        seconds = _best(functools.partial(torch.mm, a, b, out=torch.empty_like(a)), left / 2)
        best = max(best, 2e-9 * size**3 / seconds)
    return best


def _best(call: Callable[[], object], budget_s: float) -> float:
    """Seconds of the fastest of as many calls as the budget allows, at least one."""
    begun = time.perf_counter()
    call()
    best = time.perf_counter() - begun
    while time.perf_counter() - begun < budget_s:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
