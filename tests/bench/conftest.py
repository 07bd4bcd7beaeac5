"""Stand-ins for what these tests have no hardware for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from dynadiag.bench.regimes import regime

from .fake_cuda import FakeCuda, Tensors
from .fake_nvml import FakeNvml


@pytest.fixture
def card() -> FakeNvml:
    """NVML's module with one idle H200."""
    return FakeNvml()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """`torch.cuda` with one card, and the host's clock as that card's tests move it."""
    fake = FakeCuda()
    monkeypatch.setattr(torch, "cuda", fake)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", fake.end_allocate_to_pool)
    monkeypatch.setattr(time, "perf_counter", lambda: fake.clock)
    regime.cache_clear()
    with Tensors(fake):
        yield fake
    regime.cache_clear()
