from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadiag.nn import tuning
from dynadiag.nn.tuning import Tuner


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_fastest", {})


class Way:
    """A call that takes a while, and counts itself."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        time.sleep(self.seconds)
        return torch.tensor(self.seconds)


VALUES = torch.empty(3)


def test_the_faster_way_runs_and_is_named() -> None:
    tuner = Tuner("csr", 8, 8)
    assert str(tuner) == "measured at first use"
    ways = {"slow": Way(0.02), "fast": Way(0.001)}
    assert tuner.run("forward", VALUES, 5, ways) == 0.001
    assert str(tuner) == "forward fast"


def test_a_size_is_measured_once_by_all_layers_of_a_family() -> None:
    slow, fast = Way(0.02), Way(0.001)
    ways = {"slow": slow, "fast": fast}
    Tuner("csr", 8, 8).run("forward", VALUES, 5, ways)
    calls = slow.calls
    Tuner("csr", 8, 8).run("forward", VALUES, 7, ways)
    assert slow.calls == calls


@pytest.mark.parametrize("changed", ["operation", "batch", "dtype", "size", "family"])
def test_a_new_situation_is_measured_again(changed: str) -> None:
    slow = Way(0.02)
    ways: dict[str, Callable[[], Tensor]] = {"slow": slow, "fast": Way(0.001)}
    Tuner("csr", 8, 8).run("forward", VALUES, 5, ways)
    calls = slow.calls
    values = {"dtype": VALUES.double(), "size": torch.empty(4)}.get(changed, VALUES)
    Tuner("csr", 8, 9 if changed == "family" else 8).run(
        "grad_x" if changed == "operation" else "forward",
        values,
        8 if changed == "batch" else 5,
        ways,
    )
    assert slow.calls > calls


def test_a_single_way_is_not_measured() -> None:
    only = Way(0.0)
    Tuner("csr", 8, 8).run("forward", VALUES, 5, {"only": only})
    assert only.calls == 1
