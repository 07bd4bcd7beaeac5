"""Calls captured in CUDA graphs: a replay costs the host microseconds, whatever was captured."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from dynadiag.bench.paired import Call


class NotCapturable(RuntimeError):
    """A call that works, but not inside a graph; the message is the reason."""


def captured(call: Call, calls: int = 1) -> Call:
    """Return the replay of a graph that holds `calls` calls in a row.

    What a call returned lies in memory of the graph and is overwritten by the next replay.

    Args:
        call: it is called outside the graph first, to fill its caches; the current stream must
            not be the default one, nor may a backward reach back to work of another stream.
        calls: how often.

    Raises:
        NotCapturable: if `call` waits for the device or does anything else a graph cannot hold.
    """
    call()
    with _nothing_waits():
        call()
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            for _ in range(calls):
                call()
    except RuntimeError as error:
        _abandon(graph, pool)
        # The end of a broken capture raises an error of its own on top of the telling one.
        raise NotCapturable(_line(error.__context__ or error)) from error
    return graph.replay


@contextmanager
def _nothing_waits() -> Iterator[None]:
    """Turn a wait for the device into `NotCapturable`, before it can break a capture."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        raise NotCapturable(_line(error)) from error
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _abandon(graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
    """End what a failed capture leaves open in torch.

    Before torch 2.12 its allocator goes on looking for the capture at every allocation
    (pytorch #180395); after that there is nothing to end, which is an error.
    """
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
    graph.reset()


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
