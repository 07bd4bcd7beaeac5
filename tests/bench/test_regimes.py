from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from dynadiag.bench.clocks import EventStamp, HostStamp, SyncStamp
from dynadiag.bench.paired import Call, Paired, Precision, paired
from dynadiag.bench.probe import probe
from dynadiag.bench.regimes import BLOCK_S, REGIMES, Prepared, regime

from .fake_cuda import BANDWIDTH, LAUNCH_S, RECORD_S, FakeCuda

STEADY = Precision(0.5, pilot=0, least=12, cap=12, warmup=2, budget_s=10.0, hard_cap_s=20.0)
FLUSH_S = 2**28 / BANDWIDTH
FLUSH = f"zero_ {2**28}"


def measure(
    benchmark: BenchmarkFixture, name: str, calls: Mapping[str, Call]
) -> tuple[dict[str, Prepared], Paired]:
    how = regime(name, "cuda")
    ready = {arm: how.prepare(call) for arm, call in calls.items()}
    found = paired(
        benchmark,
        {arm: each.call for arm, each in ready.items()},
        seed=0,
        precision=STEADY,
        stamp=how.stamp,
        flush=how.flush,
        iterations={arm: each.iterations for arm, each in ready.items()},
    )
    assert found is not None
    return ready, found


@pytest.mark.benchmark(timer=EventStamp)
def test_cold_times_the_kernel_alone(benchmark: BenchmarkFixture, cuda: FakeCuda) -> None:
    arms = {"a": cuda.kernel(20e-6), "b": cuda.kernel(80e-6)}
    ready, found = measure(benchmark, "cold", arms)
    # Exact, with launches of 5 µs and records of 1 µs: they all hide behind the flush.
    assert found.samples["a"] == pytest.approx([20e-6] * 12)
    assert found.samples["b"] == pytest.approx([80e-6] * 12)
    assert [each.flags for each in ready.values()] == [(), ()]
    assert {(each.detail, each.iterations) for each in ready.values()} == {("graph", 1)}


@pytest.mark.benchmark(timer=EventStamp)
def test_cold_flushes_before_every_sample_and_never_waits_for_it(
    benchmark: BenchmarkFixture, cuda: FakeCuda
) -> None:
    _, found = measure(benchmark, "cold", {"a": cuda.kernel(20e-6), "b": cuda.kernel(80e-6)})
    samples = 2 * found.rounds
    assert cuda.log[-5 * samples :] == [FLUSH, "event", "replay", "kernel", "event"] * samples


@pytest.mark.benchmark(timer=EventStamp)
def test_a_wait_behind_the_flush_would_show(benchmark: BenchmarkFixture, cuda: FakeCuda) -> None:
    flush = regime("cold", "cuda").flush
    assert flush is not None

    def flush_and_wait() -> None:
        flush()
        cuda.synchronize()

    arms = {"a": cuda.kernel(20e-6)}
    found = paired(
        benchmark, arms, seed=0, precision=STEADY, stamp=EventStamp, flush=flush_and_wait
    )
    assert found is not None
    assert found.samples["a"] == pytest.approx([20e-6 + LAUNCH_S] * 12)


def test_the_flush_is_twice_the_cache_of_a_card_with_a_large_one(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = type("Card", (), {"L2_cache_size": 2**28})
    monkeypatch.setattr(cuda, "get_device_properties", lambda device: card)
    flush = regime("cold", "cuda").flush
    assert flush is not None
    flush()
    assert cuda.log == [f"zero_ {2**29}"]


def slow_to_issue(cuda: FakeCuda, issue_s: float) -> Call:
    """Return a call that cannot be captured and takes the host `issue_s` to launch."""

    def call() -> None:
        cuda.launch("first", 15e-6, issue_s / 2)
        if cuda.capture is not None:
            cuda.synchronize()
        cuda.launch("second", 15e-6, issue_s / 2)

    return call


def test_cold_flags_launches_that_the_flush_does_not_hide(cuda: FakeCuda) -> None:
    cold = regime("cold", "cuda")
    hidden = cold.prepare(slow_to_issue(cuda, FLUSH_S - 5 * RECORD_S))
    shown = cold.prepare(slow_to_issue(cuda, 2 * FLUSH_S))
    assert hidden.flags == ()
    assert shown.flags == ("launch_bound",)
    flush = cold.flush
    assert flush is not None
    assert probe(hidden.call, flush).device_s == pytest.approx(30e-6)
    assert probe(shown.call, flush).device_s > 60e-6


def test_a_graph_hides_the_launches_of_a_slow_host(cuda: FakeCuda) -> None:
    prepared = regime("cold", "cuda").prepare(cuda.kernel(30e-6, issue_s=2 * FLUSH_S))
    assert prepared.detail == "graph"
    assert prepared.flags == ()


@pytest.mark.parametrize(("seconds", "flags"), [(9e-6, ("unresolved",)), (11e-6, ())])
def test_cold_leaves_short_calls_unresolved(
    cuda: FakeCuda, seconds: float, flags: tuple[str, ...]
) -> None:
    assert regime("cold", "cuda").prepare(cuda.kernel(seconds)).flags == flags


@pytest.mark.parametrize("name", ["cold", "warm"])
def test_what_cannot_be_captured_runs_eagerly_and_says_why(cuda: FakeCuda, name: str) -> None:
    call = slow_to_issue(cuda, 2 * LAUNCH_S)
    prepared = regime(name, "cuda").prepare(call)
    assert prepared.detail == "eager: operation not permitted when stream is capturing"
    assert cuda.current is cuda.default
    cuda.log.clear()
    prepared.call()
    assert cuda.log == ["first", "second"] * prepared.iterations


@pytest.mark.benchmark(timer=EventStamp)
def test_warm_divides_by_its_calls_and_never_flushes(
    benchmark: BenchmarkFixture, cuda: FakeCuda
) -> None:
    ready, found = measure(benchmark, "warm", {"a": cuda.kernel(2e-6), "b": cuda.kernel(100e-6)})
    assert found.samples["a"] == pytest.approx([2e-6] * 12)
    assert found.samples["b"] == pytest.approx([100e-6] * 12)
    assert ready["a"].iterations > 10 * ready["b"].iterations == 100
    assert {each.detail for each in ready.values()} == {"graph"}
    assert FLUSH not in cuda.log
    assert "wait" not in cuda.log[-100:]


def test_warm_flags_uncaptured_calls_whose_launches_are_the_bottleneck(cuda: FakeCuda) -> None:
    warm = regime("warm", "cuda")
    assert warm.prepare(slow_to_issue(cuda, 100e-6)).flags == ("launch_bound",)
    assert warm.prepare(slow_to_issue(cuda, 10e-6)).flags == ()


@pytest.mark.benchmark(timer=SyncStamp)
def test_eager_waits_for_the_device_and_includes_launches(
    benchmark: BenchmarkFixture, cuda: FakeCuda
) -> None:
    arms = {"a": cuda.kernel(2e-6, issue_s=20e-6), "b": cuda.kernel(50e-6, issue_s=20e-6)}
    ready, found = measure(benchmark, "eager", arms)
    # A fast kernel takes as long as its launch, a slow one its own time; the ends are 30 µs.
    assert found.samples["a"] == pytest.approx([20e-6] * 12, rel=0.04)
    assert found.samples["b"] == pytest.approx([50e-6] * 12, rel=0.04)
    assert all(each.detail == "eager" and not each.flags for each in ready.values())
    last = ready["ab"[found.order[-1][-1]]].iterations
    assert last > 10
    # A sample, all of it behind an untimed block that is waited for too.
    assert cuda.log[-2 * last - 2 :] == (["kernel"] * last + ["wait"]) * 2


def test_on_the_cpu_calls_stay_as_they_are() -> None:
    eager = regime("eager", "cpu")

    def call() -> None: ...

    assert eager.prepare(call) == Prepared(call, 1, "eager", ())
    assert eager.stamp is HostStamp
    assert eager.flush is None
    with eager.stream():
        pass


def test_a_regime_is_one_object_and_starts_nothing(cuda: FakeCuda) -> None:
    for name in REGIMES["cuda"]:
        assert regime(name, "cuda") is regime(name, "cuda")
    assert cuda.log == []
    assert cuda.clock == 0.0


@pytest.mark.parametrize(
    ("name", "device", "known"),
    [
        ("cold", "cpu", "known: eager$"),
        ("hot", "cuda", "known: cold, warm, eager$"),
        ("eager", "tpu", "known: none, devices are cpu, cuda$"),
    ],
)
def test_unknown_regimes_are_refused(name: str, device: str, known: str) -> None:
    with pytest.raises(ValueError, match=f"no regime '{name}' on '{device}'; {known}"):
        regime(name, device)


def test_backward_of_work_on_the_regimes_stream_is_captured(cuda: FakeCuda) -> None:
    cold = regime("cold", "cuda")
    with cold.stream():
        home = cuda.current

        def backward() -> None:
            assert cuda.capture is None or cuda.current is home, "captured on another stream"
            cuda.launch("kernel", 20e-6)

        assert cold.prepare(backward).detail == "graph"
    assert cuda.current is cuda.default


needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_card
def test_cold_is_slower_than_warm_on_the_card() -> None:
    x = torch.randn(2**21, device="cuda")
    y = torch.empty_like(x)
    cold, warm = (regime(name, "cuda") for name in ("cold", "warm"))
    ready = warm.prepare(lambda: y.copy_(x))
    assert cold.flush is not None
    hot = probe(ready.call, before=ready.call).device_s / ready.iterations
    assert ready.iterations * hot == pytest.approx(BLOCK_S, rel=0.9)
    assert probe(lambda: y.copy_(x), before=cold.flush).device_s > hot


@pytest.mark.gpu
@needs_card
@pytest.mark.parametrize("name", ["cold", "warm"])
def test_a_wait_on_the_card_is_not_captured_and_harms_nothing(name: str) -> None:
    x = torch.randn(256, 256, device="cuda")
    found = regime(name, "cuda").prepare(lambda: x.sum().item())
    assert found.detail.startswith("eager: ")
    assert torch.randn(4, device="cuda").isfinite().all()


@pytest.mark.gpu
@needs_card
def test_a_backward_is_captured_on_the_card() -> None:
    cold = regime("cold", "cuda")
    with cold.stream():
        x = torch.randn(64, 64, device="cuda", requires_grad=True)
        y = x @ x
        g = torch.ones_like(y)
        found = cold.prepare(lambda: torch.autograd.grad(y, x, g, retain_graph=True))
    assert found.detail == "graph"
