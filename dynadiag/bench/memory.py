"""Peak memory of one call."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch.autograd.profiler import profile, record_function

_WINDOW = "dynadiag.peak"


class Peak(NamedTuple):
    """Peak bytes, or null with a reason; a value with a reason is not to be trusted.

    Attributes:
        bytes: handed out by torch's allocator.
        reason: why there is no value, or none to rely on.
        reserved: taken from the device by torch's allocator, on CUDA only.
        device_used: missing on the device afterwards, on CUDA only: what libraries took without
            torch and kept is in it, and so is what other processes did meanwhile.
    """

    bytes: int | None
    reason: str | None = None
    reserved: int | None = None
    device_used: int | None = None


def peak_bytes(call: Callable[[], object], *, device: str = "cpu", repeats: int = 3) -> Peak:
    """Most bytes that one call holds at a time beyond what was held before it.

    On the CPU these are the allocations of torch's allocator by the calling thread, temporaries
    and the result included, inputs excluded; buffers that a native kernel or BLAS library gets
    from the system for itself are not seen. On CUDA it is the rise of the allocator's own peak.
    What an earlier call left behind (a gradient, say) counts as held before.

    Args:
        call: what is measured; it runs once more, first, to fill its caches.
        device: ``cpu`` or ``cuda``.
        repeats: measurements, which must agree to the byte.
    """
    peaks = (_peaks_cuda if device == "cuda" else _peaks_cpu)(call, repeats)
    if not peaks:
        return Peak(None, "this torch does not report its allocations")
    sizes = sorted({peak.bytes for peak in peaks if peak.bytes is not None})
    reason = f"repeats differ: {sizes} bytes" if len(sizes) > 1 else None
    return max(peaks, key=lambda peak: peak.bytes or 0)._replace(reason=reason)


def _peaks_cpu(call: Callable[[], object], repeats: int) -> list[Peak]:
    """Highest running sum of the allocator's events, of which a free is a negative one.

    The profiler's raw events are used: its tables sum them per operator, where a temporary that
    is freed inside the operator cancels out. The first call is in the same recording, as frees
    of memory from before it are not reported.
    """
    with _no_collection(), profile(use_kineto=False, profile_memory=True) as recording:
        torch.empty(1)  # proof that allocations are reported at all
        call()
        for _ in range(repeats):
            with record_function(_WINDOW):
                call()
    events = recording.kineto_results.events()
    sizes = sorted((event.start_ns(), event.nbytes()) for event in events if _is_memory(event))
    windows = [(e.start_ns(), e.end_ns()) for e in events if e.name() == _WINDOW]
    return [
        Peak(max(accumulate((size for at, size in sizes if start <= at <= end), initial=0)))
        for start, end in windows
        if sizes
    ]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from freeing tensors in one repeat and not in the next."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _is_memory(event: Any) -> bool:
    return bool(event.name() == "[memory]" and event.device_type().name == "CPU")


def _peaks_cuda(call: Callable[[], object], repeats: int) -> list[Peak]:
    with _no_collection():
        call()
        return [_peak_cuda(call) for _ in range(repeats)]


def _peak_cuda(call: Callable[[], object]) -> Peak:
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    held, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    free, _ = torch.cuda.mem_get_info()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return Peak(
        torch.cuda.max_memory_allocated() - held,
        reserved=torch.cuda.max_memory_reserved() - reserved,
        device_used=free - torch.cuda.mem_get_info()[0],
    )
