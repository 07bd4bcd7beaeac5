from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dynadiag.nn import tuning, tuning_cuda
from dynadiag.nn.tuning import Tuner, Way, Ways

CUDA = torch.device("cuda", 0)
VALUE = torch.ones(1)


class Card:
    """A clock that gives each way its own seconds, by the result that marks it."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.ways: Ways = {name: self._way(name) for name in seconds}
        self.timed: list[str] = []
        self._last = ""

    def _way(self, name: str) -> Way:
        def way() -> Tensor:
            self._last = name
            return torch.ones(4)

        return way

    def timer(self, device: torch.device) -> Callable[[Way], float]:
        def seconds(call: Way) -> float:
            call()
            self.timed.append(self._last)
            return self.seconds[self._last]

        return seconds


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card({"torch_csr": 3.0, "cusparse(alg2 row)": 1.0, "cusparse(alg1 row)": 2.0})
    monkeypatch.setattr(tuning, "_fastest", {})
    monkeypatch.setattr(tuning_cuda, "ColdTimer", card.timer)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return card


def failing(message: str) -> Way:
    def way() -> Tensor:
        raise RuntimeError(message)

    return way


def test_the_fastest_is_chosen(card: Card) -> None:
    assert str(tuning.search(card.ways, CUDA)) == "cusparse(alg2 row)"


def test_what_fails_is_left_out_with_its_reason(card: Card) -> None:
    card.ways["cusparse(alg2 row)"] = failing("not supported\nat line 3")
    card.ways["cusparse(alg3 row)"] = failing("not supported")
    choice = tuning.search(card.ways, CUDA)
    expected = "cusparse(alg1 row) [without cusparse(alg2 row) cusparse(alg3 row): not supported]"
    assert str(choice) == expected
    assert set(card.timed) == {"torch_csr", "cusparse(alg1 row)"}


@pytest.mark.parametrize("wrong", [torch.zeros(4), torch.full((4,), torch.nan)], ids=str)
def test_what_computes_something_else_is_left_out(card: Card, wrong: Tensor) -> None:
    card.ways["cusparse(alg2 row)"] = lambda: wrong
    choice = tuning.search(card.ways, CUDA)
    assert choice.name == "cusparse(alg1 row)"
    assert "differs" in choice.left_out["cusparse(alg2 row)"]


def test_rounding_is_no_difference(card: Card) -> None:
    card.ways["exact"] = lambda: torch.tensor([1e-6, 1.0, 1.0, 100.0])
    ways = {"exact": card.ways["exact"], "other": lambda: card.ways["exact"]() + 1e-2}
    working, left_out = tuning_cuda.sift(ways)
    assert set(working) == {"exact", "other"}
    assert not left_out


def test_if_nothing_works_every_reason_is_told(card: Card) -> None:
    ways = {"one": failing("no memory"), "two": failing("no library")}
    with pytest.raises(RuntimeError, match=r"no way .* one: no memory; two: no library"):
        tuning.search(ways, CUDA)


def test_nothing_is_measured_while_a_graph_is_captured(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="call the layer once before"):
        tuning.search(card.ways, CUDA)
    assert not card.timed


def test_on_cuda_each_batch_is_measured_for_itself(card: Card) -> None:
    values = SimpleNamespace(shape=(3,), dtype=torch.float32, device=CUDA)
    for batch in (5, 5, 6):
        Tuner("csr").run("forward", values, batch, card.ways)  # type: ignore[arg-type]
    assert len(tuning._fastest) == 2


def test_a_call_is_timed_between_events_behind_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, end: Event) -> float:
            return 2.0

    class Flush:
        def zero_(self) -> None:
            log.append("flush")

    def empty(size: int, *, dtype: torch.dtype, device: torch.device) -> Flush:
        assert size == 2 * 10**9
        return Flush()

    properties = SimpleNamespace(L2_cache_size=10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", empty)

    def call() -> Tensor:
        log.append("call")
        return VALUE

    seconds = tuning_cuda.ColdTimer(CUDA)(call)
    assert seconds == 2e-3
    assert log == ["flush", "record", "call", "record", "wait"]
