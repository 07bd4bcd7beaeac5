"""A case under watch: repetitions, flags, limits; the card is made up, the arithmetic real."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from dynadiag.bench import regimes
from dynadiag.bench.paired import Precision
from dynadiag.bench.regimes import HostEager, Prepared
from dynadiag.bench.watch import Seen
from dynadiag.kernels.cuda.device import Device
from suites import candidates, measure
from suites.arms import ARMS
from suites.candidates import Bench
from suites.cases import Case, CaseError
from suites.equipment import Equipment, device_of, shared_reads
from suites.limit import OutOfTime, limit
from suites.measure import Measurement
from suites.take import take
from tests.kernels.cuda.cards import H200

CASE = Case("forward", "16x24", 4, "float32", 0.5, arms=("dense", "dense_again", "csr"))
FAST = Precision(0.01, 0, 12, 12, warmup=1, budget_s=0.01, hard_cap_s=60.0)


class Doubtful(HostEager):
    """A regime in which every call is taken twice, the sparse ones with a doubt."""

    def prepare(self, call: Callable[[], object]) -> Prepared:
        self.calls = getattr(self, "calls", 0) + 1
        flags = ("launch_bound",) if self.calls == 3 else ()
        return Prepared(lambda: (call(), call()), 2, "graph", flags)


class Watched(Equipment):
    """The CPU under a watch that repeats once, and then saw a limit of power."""

    def watched(self, work: Callable[[], Any]) -> tuple[Any, Seen]:
        work()
        return work(), Seen(("power_capped",), {"sm_mhz": [1900, 1800]})


@pytest.fixture
def doubtful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    regimes.regime.cache_clear()
    monkeypatch.setitem(regimes.REGIMES["cpu"], "eager", Doubtful)
    yield
    regimes.regime.cache_clear()


def rows_of(taken: Measurement) -> list[dict[str, Any]]:
    return list(taken.rows(None, run_id="run"))


@pytest.mark.usefixtures("doubtful")
def test_regime_shows_in_times_flags_verdicts_and_configuration() -> None:
    rows = rows_of(take(CASE, 0, FAST, Equipment("cpu")))
    medians = {row["arm"]: row for row in rows if row["stat"] == "median"}
    assert "launch_bound" in medians["csr"]["flags"]
    assert "launch_bound" not in medians["dense"]["flags"]
    assert medians["dense"]["config"] == "graph"
    assert medians["csr"]["config"].endswith("; graph")
    ratios = [
        row for row in rows if row["metric"] == "speedup" and "csr" in (row["arm"], row["baseline"])
    ]
    assert {row["verdict"] for row in ratios} == {"AMBIGUOUS"}
    assert all("launch_bound" in row["flags"] for row in ratios)


def test_repetition_after_the_fixture_is_used_up() -> None:
    taken = take(CASE, 0, FAST, Watched("cpu"))
    rows = rows_of(taken)
    assert len(taken.samples["dense"]) == 12
    assert all("power_capped" in row["flags"] for row in rows if row["metric"] == "time")
    assert [row["value"] for row in rows if row["metric"] == "sm_clock"] == [1800]


def test_the_cpu_is_not_watched() -> None:
    rows = rows_of(take(CASE, 0, FAST, Equipment("cpu")))
    assert not any(row["metric"] == "sm_clock" for row in rows)
    assert not any(row["metric"] == "energy" for row in rows)
    assert rows[-1]["metric"] == "case"


def test_arm_that_is_not_ready_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> None:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            time.sleep(0.001)

    monkeypatch.setattr(type(ARMS["csr"]), "build", build)
    candidate = candidates.prepare(CASE, "csr", None, 0, Bench(patience_s=0.05))  # type: ignore[arg-type]
    assert candidate.status == "skipped"
    assert candidate.reason == "it was not ready after 0.05 s, the limit of this run"


def test_end_of_a_stage_ends_the_case_and_not_only_an_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> None:
        time.sleep(0.02)

    monkeypatch.setattr(type(ARMS["csr"]), "build", build)

    def work() -> None:
        measure.Measurement(CASE, 0, Bench(patience_s=5.0))
        time.sleep(1)

    with pytest.raises(OutOfTime), limit(0.01):
        work()


@pytest.mark.parametrize(("name", "device"), [("auto", "cpu"), ("cpu", "cpu")])
def test_device_without_a_card(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of(name) == device


def test_card_that_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(CaseError, match="torch sees no CUDA device"):
        device_of("cuda")


def test_auto_takes_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of("auto") == "cuda"


def test_shared_card_and_blocking_launches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suites.equipment.why_busy", lambda nvml: "2 other process(es)")
    card = Equipment("cuda")
    assert "--allow-shared" in str(card.why_not({}))
    assert card.why_not({}, allow_shared=True) is None
    blocked = card.why_not({"CUDA_LAUNCH_BLOCKING": "1"}, allow_shared=True)
    assert "CUDA_LAUNCH_BLOCKING=1" in str(blocked)
    assert Equipment("cpu").why_not({"CUDA_LAUNCH_BLOCKING": "1"}) is None


def test_shared_memory_check_counts_what_its_kernel_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[tuple[Any, ...]] = []

    class Noting:
        def launch(self, *words: Any) -> None:
            launches.append(words)

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(Device, "of", classmethod(lambda cls, index: H200))
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, device: empty(size))
    read = shared_reads(Noting())
    threads = 132 * 2 * 1024
    assert read(3) == 3 * 8 * 16 * threads
    ((variant, grid, block, _, (out, rounds)),) = launches
    assert (variant.kernel, grid, block, len(out), rounds) == (
        "shared_rate",
        (264, 1, 1),
        1024,
        threads,
        3,
    )
