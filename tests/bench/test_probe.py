from __future__ import annotations

import pytest

from dynadiag.bench.probe import probe, waited

from .fake_cuda import LAUNCH_S, RECORD_S, WAIT_S, FakeCuda


def test_a_probe_tells_device_from_host(cuda: FakeCuda) -> None:
    seen = probe(cuda.kernel(20e-6, issue_s=30e-6), before=cuda.kernel(100e-6))
    assert seen.device_s == pytest.approx(20e-6)
    assert seen.issue_s == pytest.approx(30e-6 + 2 * RECORD_S)


def test_what_is_not_hidden_shows(cuda: FakeCuda) -> None:
    seen = probe(cuda.kernel(20e-6, issue_s=30e-6), before=cuda.kernel(1e-6))
    assert seen.device_s > 45e-6


def test_hiccups_of_host_and_device_are_left_out(cuda: FakeCuda) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        slow = 10 if calls % 3 == 0 else 1
        cuda.launch("kernel", slow * 20e-6, issue_s=slow * LAUNCH_S)

    seen = probe(call, before=cuda.kernel(100e-6))
    assert seen.device_s == pytest.approx(20e-6)
    assert seen.issue_s == pytest.approx(LAUNCH_S + 2 * RECORD_S)
    assert calls == 12


def test_slow_calls_are_probed_once_more_only(cuda: FakeCuda) -> None:
    probe(cuda.kernel(0.2), before=cuda.kernel(0.2))
    assert cuda.log.count("kernel") == 4


def test_waiting_is_from_idle_to_idle(cuda: FakeCuda) -> None:
    cuda.launch("before", 1.0)
    assert waited(cuda.kernel(1e-3)) == pytest.approx(1e-3 + LAUNCH_S + WAIT_S)
