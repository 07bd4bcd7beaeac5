"""A card for machines without one: it stands in for `torch.cuda` and has clocks of its own.

The host's clock moves when something is launched or waited for. The device has one queue: work
starts once it has been launched and the work before it is done. Tensors "on CUDA" live on torch's
meta device; what is done to them takes the time that their bytes or products would.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LAUNCH_S, RECORD_S, WAIT_S = 5e-6, 1e-6, 10e-6
BANDWIDTH, CACHE_BANDWIDTH = 4e12, 12e12
CACHE_BYTES, MEMORY_BYTES, SEGMENT_BYTES = 50 * 2**20, 2**37, 2**21
FLOPS = {"bfloat16": 800e12, "float16": 790e12, "tf32": 400e12, "float32": 50e12}
SYNC_MODES = ("default", "warn", "error")

Seconds = Callable[[], float]


class FakeCuda:
    """What the measurements use of `torch.cuda`.

    Attributes:
        clock: seconds on the host.
        done_at: when the device's queue is empty, on the same clock.
        log: what the device was given and what the host waited for, in order.
        underway: memory pools that the allocator believes to be capturing.
    """

    def __init__(self) -> None:
        self.clock = self.done_at = 0.0
        self.log: list[str] = []
        self.default = self.current = FakeStream(self)
        self.capture: FakeGraph | None = None
        self.underway: set[tuple[int, int]] = set()
        self.allocated = self.most_allocated = self.reserved = self.most_reserved = self.taken = 0
        self._cache: OrderedDict[object, int] = OrderedDict()
        self._sync_debug, self._pools = 0, 0
        self.Event = functools.partial(FakeEvent, self)
        self.Stream = functools.partial(FakeStream, self)
        self.CUDAGraph = functools.partial(FakeGraph, self)

    # What a test's calls do.

    def launch(self, name: str, seconds: float | Seconds, issue_s: float = LAUNCH_S) -> None:
        """Queue `seconds` of work, which takes the host `issue_s`."""
        self.clock += issue_s
        take = seconds if callable(seconds) else lambda: seconds
        if self.capture is None:
            self._run(name, take)
        else:
            self.capture.work.append((name, take))

    def kernel(self, seconds: float, issue_s: float = LAUNCH_S) -> Callable[[], None]:
        """Return a call that launches one kernel."""
        return functools.partial(self.launch, "kernel", seconds, issue_s)

    def item(self) -> None:
        """Wait for a result, as `Tensor.item` does."""
        if self._sync_debug == 2:
            raise RuntimeError("called a synchronizing CUDA operation\nin item()")
        self.synchronize()

    def hold(self, size: int) -> Block:
        """Allocate; the memory is free again when the block is dropped."""
        self.allocated += size
        self.most_allocated = max(self.most_allocated, self.allocated)
        self.reserved = max(self.reserved, _segments(self.allocated))
        self.most_reserved = max(self.most_reserved, self.reserved)
        return Block(self, size)

    # What stands in for torch.cuda.

    def synchronize(self, device: object = None) -> None:
        if self.capture is not None:
            self.capture.broken = True
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")
        self.clock = max(self.clock, self.done_at) + WAIT_S
        self.log.append("wait")

    def current_device(self) -> int:
        return 0

    def get_device_properties(self, device: object) -> SimpleNamespace:
        return SimpleNamespace(L2_cache_size=CACHE_BYTES, total_memory=MEMORY_BYTES)

    def current_stream(self, device: object = None) -> FakeStream:
        return self.current

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(
        self,
        graph: FakeGraph,
        pool: tuple[int, int] | None = None,
        stream: FakeStream | None = None,
    ) -> Iterator[None]:
        self.synchronize()
        self.empty_cache()
        before, self.current = self.current, stream or FakeStream(self)
        if self.current is self.default:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream")
        pool = pool or self.graph_pool_handle()
        self.capture = graph
        self.underway.add(pool)
        try:
            yield
        finally:
            self.capture = None
            if graph.broken:  # like torch before 2.12: pool and stream stay as they are
                raise RuntimeError("operation failed due to a previous error during capture")
            self.underway.remove(pool)
            self.current, graph.ready = before, True
            if not graph.work:
                warnings.warn("The CUDA Graph is empty. Was it another stream?", stacklevel=3)

    def graph_pool_handle(self) -> tuple[int, int]:
        self._pools += 1
        return 0, self._pools

    def end_allocate_to_pool(self, device: int, pool: tuple[int, int]) -> None:
        if pool not in self.underway:
            raise RuntimeError("not currently recording to the pool")
        self.underway.remove(pool)

    def get_sync_debug_mode(self) -> int:
        return self._sync_debug

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self._sync_debug = mode if isinstance(mode, int) else SYNC_MODES.index(mode)
        if self._sync_debug:
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=2)

    def memory_allocated(self) -> int:
        return self.allocated

    def memory_reserved(self) -> int:
        return self.reserved

    def max_memory_allocated(self) -> int:
        return self.most_allocated

    def max_memory_reserved(self) -> int:
        return self.most_reserved

    def reset_peak_memory_stats(self) -> None:
        self.most_allocated, self.most_reserved = self.allocated, self.reserved

    def empty_cache(self) -> None:
        self.reserved = _segments(self.allocated)

    def mem_get_info(self) -> tuple[int, int]:
        return MEMORY_BYTES - self.reserved - self.taken, MEMORY_BYTES

    # The device.

    def _run(self, name: str, seconds: Seconds) -> None:
        self.done_at = max(self.done_at, self.clock) + seconds()
        self.log.append(name)

    def replay(self, work: list[tuple[str, Seconds]]) -> None:
        self.clock += LAUNCH_S
        self.log.append("replay")
        for name, seconds in work:
            self._run(name, seconds)

    def touch(self, key: object, size: int) -> float:
        """Seconds to read or write `size` bytes, which the cache then holds if it can."""
        hot = key in self._cache
        self._cache.pop(key, None)
        self._cache[key] = size
        while self._cache and sum(self._cache.values()) > CACHE_BYTES:
            self._cache.popitem(last=False)
        return size / (CACHE_BANDWIDTH if hot else BANDWIDTH)


class FakeStream:
    def __init__(self, card: FakeCuda) -> None:
        self.card = card

    def wait_stream(self, other: FakeStream) -> None:
        self.card.clock += RECORD_S


class FakeEvent:
    """Its time is known only once it has been waited for."""

    def __init__(self, card: FakeCuda, *, enable_timing: bool) -> None:
        assert enable_timing
        self.card, self.waited = card, False

    def record(self) -> None:
        self.card.clock += RECORD_S
        self.at = self.card.done_at = max(self.card.done_at, self.card.clock)
        self.card.log.append("event")

    def synchronize(self) -> None:
        self.card.clock = max(self.card.clock, self.at) + WAIT_S
        self.waited = True

    def elapsed_time(self, end: FakeEvent) -> float:
        assert end.waited
        return (end.at - self.at) * 1e3


class FakeGraph:
    def __init__(self, card: FakeCuda) -> None:
        self.card, self.work = card, list[tuple[str, Seconds]]()
        self.broken = self.ready = False

    def replay(self) -> None:
        assert self.ready
        self.card.replay(self.work)

    def reset(self) -> None:
        self.work.clear()
        self.ready = False


class Block:
    """Memory that a test's call holds."""

    def __init__(self, card: FakeCuda, size: int) -> None:
        weakref.finalize(self, Block._free, card, size)

    @staticmethod
    def _free(card: FakeCuda, size: int) -> None:
        card.allocated -= size


class Tensors(TorchFunctionMode):
    """Puts tensors for the card on the meta device, and their work on the card's queue."""

    def __init__(self, card: FakeCuda) -> None:
        super().__init__()
        self.card = card
        self.works: dict[str, Callable[..., Seconds]] = {
            "zero_": self._write,
            "copy_": self._copy,
            "mm": self._multiply,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args = tuple("meta" if _is_cuda(arg) else arg for arg in args)
        options = {
            name: "meta" if _is_cuda(value) else value for name, value in (kwargs or {}).items()
        }
        result = func(*args, **options)
        name = getattr(func, "__name__", "")
        if name in self.works and isinstance(result, Tensor) and result.is_meta:
            self.card.launch(f"{name} {result.nbytes}", self.works[name](result, *args))
        return result

    def _write(self, result: Tensor, *_: Tensor) -> Seconds:
        return functools.partial(self.card.touch, id(result), result.nbytes)

    def _copy(self, result: Tensor, _: Tensor, source: Tensor) -> Seconds:
        touch, size = self.card.touch, result.nbytes
        return lambda: touch(id(source), size) + touch(id(result), size)

    def _multiply(self, result: Tensor, a: Tensor, b: Tensor) -> Seconds:
        tf32 = a.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
        rate = FLOPS["tf32" if tf32 else str(a.dtype).removeprefix("torch.")]
        return lambda: 2 * result.numel() * a.shape[1] / rate


def _is_cuda(value: object) -> bool:
    return isinstance(value, str | torch.device) and str(value).startswith("cuda")


def _segments(size: int) -> int:
    return -(-size // SEGMENT_BYTES) * SEGMENT_BYTES
