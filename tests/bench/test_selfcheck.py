from __future__ import annotations

import time

import pytest
import torch

from dynadiag.bench import selfcheck


def test_ceilings_are_measured_within_the_time_and_threads_restored() -> None:
    threads = torch.get_num_threads()
    begun = time.perf_counter()
    found = selfcheck.self_checks(budget_s=0.4)
    assert time.perf_counter() - begun < 10
    assert torch.get_num_threads() == threads == found["threads"]
    rates = [*found["copy_gbps"].values(), *found["gemm_gflops"].values()]
    assert len(rates) == 4
    assert min(rates) > 0
    assert 0 < found["timer_resolution_s"] < 1e-3


def test_a_gemm_grows_only_while_it_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def slow(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> None:
        sizes.append(len(a))
        time.sleep(0.01 * (len(a) / 128) ** 3)

    monkeypatch.setattr(torch, "mm", slow)
    rate = selfcheck._gemm_gflops(torch.float32, budget_s=0.3)
    assert set(sizes) == {128}
    assert rate == pytest.approx(2e-9 * 128**3 / 0.01, rel=0.3)
