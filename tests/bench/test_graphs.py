from __future__ import annotations

from collections.abc import Iterator

import pytest

from dynadiag.bench.graphs import NotCapturable, captured

from .fake_cuda import LAUNCH_S, FakeCuda, FakeStream


@pytest.fixture
def side(cuda: FakeCuda) -> Iterator[FakeStream]:
    stream = cuda.Stream()
    with cuda.stream(stream):
        yield stream
        assert cuda.current is stream


@pytest.mark.usefixtures("side")
def test_a_replay_runs_all_calls_and_costs_one_launch(cuda: FakeCuda) -> None:
    replay = captured(cuda.kernel(1e-6, issue_s=1.0), calls=3)
    cuda.log.clear()
    before = cuda.clock
    replay()
    assert cuda.log == ["replay", "kernel", "kernel", "kernel"]
    assert cuda.clock - before == pytest.approx(LAUNCH_S)
    assert cuda.underway == set()


@pytest.mark.usefixtures("side")
def test_what_waits_is_found_out_before_a_capture(cuda: FakeCuda) -> None:
    with pytest.raises(NotCapturable, match=r"^called a synchronizing CUDA operation$"):
        captured(cuda.item)
    assert cuda.graph_pool_handle() == (0, 1), "a capture was begun"
    assert cuda.get_sync_debug_mode() == 0


@pytest.mark.usefixtures("side")
def test_a_broken_capture_is_cleaned_up(cuda: FakeCuda) -> None:
    with pytest.raises(NotCapturable, match=r"^operation not permitted when stream is capturing$"):
        captured(cuda.synchronize)
    assert cuda.capture is None
    assert cuda.underway == set()
    captured(cuda.kernel(1e-6))()
    assert cuda.log[-2:] == ["replay", "kernel"]


@pytest.mark.usefixtures("side")
def test_a_torch_that_cleans_up_by_itself_is_fine(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(device: int, pool: tuple[int, int]) -> None:
        raise RuntimeError("not currently recording")

    monkeypatch.setattr("torch._C._cuda_endAllocateToPool", ended)
    with pytest.raises(NotCapturable, match="not permitted"):
        captured(cuda.synchronize)


@pytest.mark.usefixtures("side")
def test_a_call_that_fails_anyway_fails_with_its_own_error() -> None:
    def fails() -> None:
        raise ValueError("shapes do not match")

    with pytest.raises(ValueError, match="shapes do not match"):
        captured(fails)
