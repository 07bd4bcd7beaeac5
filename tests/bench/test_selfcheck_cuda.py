from __future__ import annotations

import pytest
import torch

from dynadiag.bench.regimes import Cold
from dynadiag.bench.selfcheck_cuda import (
    gemm_gflops,
    self_checks_cuda,
    shared_gbps,
    small_copy_s,
)

from .fake_cuda import BANDWIDTH, FLOPS, RECORD_S, FakeCuda


def test_ceilings_are_those_of_the_card(cuda: FakeCuda) -> None:
    found = self_checks_cuda()
    assert found["copy_gbps"] == {"device": pytest.approx(BANDWIDTH * 1e-9)}
    assert found["gemm_gflops"] == pytest.approx({name: 1e-9 * r for name, r in FLOPS.items()})
    assert found["shared_gbps"] is None
    assert found["empty_graph_s"] < 2 * RECORD_S  # its launch is hidden
    assert found["flags"] == []
    assert 0 < found["seconds"] < 10


@pytest.mark.usefixtures("cuda")
def test_tf32_is_as_before_afterwards() -> None:
    for precision in ("high", "highest"):  # torch's default comes last
        torch.set_float32_matmul_precision(precision)
        gemm_gflops("cuda")
        assert torch.get_float32_matmul_precision() == precision


def test_shared_memory_is_read_by_the_given_kernel(cuda: FakeCuda) -> None:
    def reads(rounds: int) -> int:
        read = rounds * 2**20
        cuda.launch("reads", read / 33e12)
        return read

    assert shared_gbps(reads) == pytest.approx(33e3)
    assert self_checks_cuda(reads)["shared_gbps"] == pytest.approx(33e3)


@pytest.mark.usefixtures("cuda")
def test_a_copy_within_the_cache_is_slower_behind_a_flush() -> None:
    small = small_copy_s(Cold("cuda").flush, "cuda")
    assert small["cold"] == pytest.approx(2 * 2**23 / BANDWIDTH)
    assert small["warm"] < small["cold"] / 2


def test_a_flush_without_effect_is_flagged(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "touch", lambda key, size: size / BANDWIDTH)
    assert self_checks_cuda()["flags"] == ["flush_ineffective"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_card_passes_its_checks() -> None:
    found = self_checks_cuda()
    assert found["flags"] == []
    assert found["gemm_gflops"]["tf32"] > found["gemm_gflops"]["float32"]
    assert found["copy_gbps"]["device"] > 100
    assert 0 <= found["empty_graph_s"] < 1e-4
