"""Ceilings of a CUDA device, and proof that the regimes do there what they say."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dynadiag.bench.paired import Call
from dynadiag.bench.probe import probe
from dynadiag.bench.regimes import Cold

# Queues a kernel that reads shared memory in that many rounds; returns the bytes it reads.
SharedReads = Callable[[int], int]

COPY_BYTES, SMALL_COPY_BYTES = 2**29, 2**23
GEMM_SIZE = 4096
SHARED_ROUNDS = 4096


def self_checks_cuda(
    shared_reads: SharedReads | None = None, *, device: str = "cuda"
) -> dict[str, Any]:
    """Ceilings and launch costs of the device, the best of a few repeats each.

    Args:
        shared_reads: queues a loop of shared-memory loads; without it their rate is null.
        device: the one to check.

    Returns:
        ``copy_gbps`` (read and written, 1e9 bytes/s) of 512 MiB; ``gemm_gflops`` (1e9 FLOP/s) of
        4096³ by dtype, ``float32`` without and ``tf32`` with TensorFloat-32; ``shared_gbps``;
        ``empty_graph_s``, what replaying a CUDA graph adds to a time; ``small_copy_s``, an 8 MiB
        copy ``cold`` and ``warm``; ``seconds``; ``flags``: ``flush_ineffective`` where the cold
        one is not the slower.
    """
    start = time.perf_counter()
    flush = Cold(device).flush
    small = small_copy_s(flush, device)
    return {
        "copy_gbps": {"device": 2e-9 * COPY_BYTES / _fastest(_copy(COPY_BYTES, device))},
        "gemm_gflops": gemm_gflops(device),
        "shared_gbps": shared_gbps(shared_reads) if shared_reads else None,
        "empty_graph_s": empty_graph_s(flush),
        "small_copy_s": small,
        "flags": [] if small["cold"] > small["warm"] else ["flush_ineffective"],
        "seconds": time.perf_counter() - start,
    }


def gemm_gflops(device: str) -> dict[str, float]:
    """Rates of 4096³ products of normal numbers; zeros would save power and run faster."""
    rates = {}
    drawn = [torch.randn(GEMM_SIZE, GEMM_SIZE).to(device) for _ in range(2)]
    for name in ("bfloat16", "float16", "float32", "tf32"):
        a, b = (
            each.to(torch.float32 if name == "tf32" else getattr(torch, name)) for each in drawn
        )
        with _tf32(name == "tf32"):
            seconds = _fastest(functools.partial(torch.mm, a, b, out=torch.empty_like(a)))
        rates[name] = 2e-9 * GEMM_SIZE**3 / seconds
    return rates


def shared_gbps(shared_reads: SharedReads) -> float:
    """Rate at which all multiprocessors together read their shared memory."""
    return 1e-9 * shared_reads(SHARED_ROUNDS) / _fastest(lambda: shared_reads(SHARED_ROUNDS))


def empty_graph_s(flush: Call) -> float:
    """Seconds between two events around the replay, behind a flush, of a graph without work."""
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The CUDA Graph is empty")
        with torch.cuda.graph(graph):
            pass
    return probe(graph.replay, before=flush).device_s


def small_copy_s(flush: Call, device: str) -> dict[str, float]:
    """Seconds of a copy that fits the L2 cache, right behind a flush and once more after that."""
    copy = _copy(SMALL_COPY_BYTES, device)

    def flush_and_copy() -> None:
        flush()  # also here: a copy is too short to hide the launch of the next
        copy()

    return {
        "cold": probe(copy, before=flush).device_s,
        "warm": probe(copy, before=flush_and_copy).device_s,
    }


def _copy(size: int, device: str) -> Call:
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return lambda: target.copy_(source)


def _fastest(call: Call) -> float:
    return probe(call, before=call).device_s


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
