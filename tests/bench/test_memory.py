from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadiag.bench.memory import Peak, peak_bytes

from .fake_cuda import Block, FakeCuda

X = torch.randn(64, 32)
W = torch.randn(16, 32, requires_grad=True)


def chain() -> Tensor:
    doubled = X * 2.0
    shifted = doubled + 1.0
    del doubled
    return shifted.sum(dim=1)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: None, 0),
        (lambda: X.t(), 0),
        (lambda: X.clone(), 64 * 32 * 4),
        (lambda: X.clone().clone().clone(), 2 * 64 * 32 * 4),
        (lambda: [X.clone(), X.clone(), X.clone()], 3 * 64 * 32 * 4),
        (lambda: torch.nn.functional.linear(X, W), 64 * 16 * 4),
    ],
    ids=["nothing", "view", "copy", "chain of copies", "copies", "linear"],
)
def test_peaks_are_exact(call: Callable[[], object], expected: int) -> None:
    assert peak_bytes(call) == Peak(expected, None)


def test_temporaries_inside_an_operator_are_seen() -> None:
    strided = torch.randn(32, 64).t()
    into = torch.empty(64 * 32)
    # The result is written into `into`, but `sort` needs buffers of its own on the way.
    values, order = torch.sort(strided.reshape(-1))
    found = peak_bytes(lambda: torch.sort(strided.reshape(-1), out=(into, order)))
    assert found.reason is None
    assert found.bytes is not None
    assert found.bytes >= values.numel() * 4


def test_backward_is_part_of_a_call() -> None:
    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(torch.nn.functional.linear(X, W).square().sum(), W)

    found = peak_bytes(step)
    assert found.reason is None
    assert found.bytes is not None
    assert found.bytes > 2 * 64 * 16 * 4  # the output, its square's gradient, ...
    assert peak_bytes(step) == found


def test_a_cache_filled_by_the_first_call_is_not_counted() -> None:
    cache: dict[str, Tensor] = {}

    def cached() -> Tensor:
        return cache.setdefault("x", X) if "x" in cache else cache.setdefault("x", X.clone())

    assert peak_bytes(cached) == Peak(0, None)


def test_repeats_that_differ_are_reported() -> None:
    sizes = iter([1, 1, 10, 20])
    found = peak_bytes(lambda: torch.empty(next(sizes), dtype=torch.uint8))
    assert found == Peak(20, "repeats differ: [1, 10, 20] bytes")


def test_errors_of_the_call_pass_through_and_collection_resumes() -> None:
    import gc

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        peak_bytes(fails)
    assert gc.isenabled()


MIB = 2**20


def test_cuda_peaks_exclude_what_was_held_before(cuda: FakeCuda) -> None:
    cuda.hold(64 * MIB)  # a higher peak, but an earlier one
    inputs = [cuda.hold(5 * MIB)]

    def call() -> Block:
        temporary = cuda.hold(4 * MIB)
        result = cuda.hold(MIB)
        del temporary
        return result

    found = peak_bytes(call, device="cuda")
    assert found == Peak(5 * MIB, None, reserved=4 * MIB, device_used=4 * MIB)
    assert cuda.allocated == 5 * MIB * len(inputs)


def test_what_a_library_takes_by_itself_is_only_in_device_used(cuda: FakeCuda) -> None:
    def call() -> None:
        cuda.taken += 8 * MIB

    assert peak_bytes(call, device="cuda") == Peak(0, None, reserved=0, device_used=8 * MIB)


def test_cuda_repeats_that_differ_are_reported(cuda: FakeCuda) -> None:
    sizes = iter([MIB, MIB, 2 * MIB, 3 * MIB])
    found = peak_bytes(lambda: cuda.hold(next(sizes)), device="cuda")
    assert found.bytes == 3 * MIB
    assert found.reason == f"repeats differ: {[MIB, 2 * MIB, 3 * MIB]} bytes"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_peaks_are_those_of_the_allocator() -> None:
    x = torch.randn(1024, 1024, device="cuda")
    found = peak_bytes(lambda: x.clone().clone(), device="cuda")
    assert (found.bytes, found.reason) == (2 * 2**22, None)
    assert found.reserved is not None
    assert found.reserved >= 2 * 2**22
    assert found.device_used == found.reserved
