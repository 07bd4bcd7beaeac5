from __future__ import annotations

import time

import pytest
import torch

from dynadiag.bench.clocks import EventStamp, HostStamp, SyncStamp

from .fake_cuda import LAUNCH_S, WAIT_S, FakeCuda


def test_host_stamps_differ_by_seconds() -> None:
    start = HostStamp()
    time.sleep(0.02)
    end = HostStamp()
    assert 0.02 <= end - start < 1.0
    assert start - end == -(end - start)


def test_event_stamps_give_the_seconds_of_the_device(cuda: FakeCuda) -> None:
    cuda.launch("before", 1.0)
    start = EventStamp()
    cuda.launch("kernel", 2.5e-3)
    end = EventStamp()
    assert cuda.clock < 1.0
    assert end - start == pytest.approx(2.5e-3)
    assert cuda.clock > 1.0  # the difference waited for the end


def test_sync_stamps_wait_for_the_device_at_both_ends(cuda: FakeCuda) -> None:
    cuda.launch("before", 1.0)
    start = SyncStamp()
    assert cuda.clock > 1.0
    cuda.launch("kernel", 2.5e-3)
    assert SyncStamp() - start == pytest.approx(2.5e-3 + LAUNCH_S + WAIT_S)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_event_stamps_time_the_device_not_the_launch() -> None:
    x = torch.randn(8192, 8192, device="cuda")
    torch.mm(x, x)
    torch.cuda.synchronize()
    begun = HostStamp()
    start = EventStamp()
    torch.mm(x, x)
    end = EventStamp()
    launch = HostStamp() - begun
    assert end - start > 2 * launch
