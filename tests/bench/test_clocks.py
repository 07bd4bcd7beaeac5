from __future__ import annotations

import time

import pytest
import torch

from dynadiag.bench.clocks import EventStamp, HostStamp


def test_host_stamps_differ_by_seconds() -> None:
    start = HostStamp()
    time.sleep(0.02)
    end = HostStamp()
    assert 0.02 <= end - start < 1.0
    assert start - end == -(end - start)


class FakeEvent:
    """A CUDA event whose time is only known once it has been waited for."""

    clock_ms = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.waited = False

    def record(self) -> None:
        FakeEvent.clock_ms += 2.5
        self.ms = FakeEvent.clock_ms

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, end: FakeEvent) -> float:
        assert end.waited
        return end.ms - self.ms


def test_event_stamps_wait_for_the_end_and_give_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    start, end = EventStamp(), EventStamp()
    assert end - start == pytest.approx(2.5e-3)


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
