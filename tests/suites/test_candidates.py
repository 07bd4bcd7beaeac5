"""The gate: every direction is checked against fp64, and a wrong arm is never timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from dynadiag import kernels
from dynadiag.bench.paired import PRECISIONS
from suites import candidates
from suites.arms import ARMS, Arm, stored_weight
from suites.calls import Inputs, make_call, reference, relative_error
from suites.candidates import in_rounds, prepare
from suites.cases import DIRECTIONS, DTYPES, Case
from suites.measure import Measurement


def case(direction: str = "forward", dtype: str = "float32") -> Case:
    return Case(direction, "32x64", 12, dtype, 0.5)


class WrongForward(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        y[-1, -1] += 1.0
        return y


class WrongGradient(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y.detach() + 1.001 * (y - y.detach())


class Broken(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of memory\nin some kernel")


def plant(monkeypatch: pytest.MonkeyPatch, layer: type[nn.Linear]) -> None:
    planted: Mapping[str, Arm] = ARMS | {"planted": Arm("dense", layer, {})}
    monkeypatch.setattr(candidates, "ARMS", planted)


def planted(direction: str) -> Any:
    return prepare(case(direction), "planted", Inputs.draw(case(direction), 0), 0)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["dense", "diagonal"])
def test_right_arm_passes_in_every_direction(name: str, dtype: str, direction: str) -> None:
    inputs = Inputs.draw(case(direction, dtype), 0)
    candidate = prepare(case(direction, dtype), name, inputs, 0)
    assert (candidate.status, candidate.reason) == ("ok", None)
    assert candidate.error is not None
    assert candidate.seconds > 0


@pytest.mark.parametrize(
    ("layer", "direction"),
    [
        (WrongForward, "forward"),
        (WrongGradient, "grad_x"),
        (WrongGradient, "grad_values"),
        (WrongGradient, "step"),
    ],
)
def test_wrong_arm_is_caught_and_not_timed(
    layer: type[nn.Linear], direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, layer)
    candidate = planted(direction)
    assert candidate.status == "wrong"
    assert "against fp64; float32 allows 1e-05" in candidate.reason
    assert candidate.seconds == 0


def test_case_without_a_right_arm_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Broken)
    measurement = Measurement(replace(case(), arms=("planted",)), 0)
    measurement.time(cast("Any", None), PRECISIONS["quick"])
    time, ending = measurement.rows(cast("Any", None), run_id="run")
    assert (time["arm"], time["status"], time["value"]) == ("planted", "failed", None)
    assert (ending["metric"], ending["status"]) == ("case", "failed")
    assert ending["reason"] == "planted failed: RuntimeError: out of memory"


def test_right_forward_of_a_wrong_gradient_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, WrongGradient)
    assert planted("forward").status == "ok"


def test_arm_that_raises_has_failed_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, Broken)
    candidate = planted("forward")
    assert (candidate.status, candidate.reason) == ("failed", "RuntimeError: out of memory")


def test_format_that_cannot_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ARMS["csr"].layer, "why_not", lambda *_, **__: "no such weight")
    candidate = prepare(case(), "csr", Inputs.draw(case(), 0), 0)
    assert (candidate.status, candidate.reason) == ("skipped", "no such weight")
    assert candidate.layer is None


@pytest.mark.parametrize(
    "result", [torch.zeros(3), torch.full((2,), torch.nan), torch.full((2,), torch.inf)]
)
def test_wrong_shape_and_non_finite_results_are_infinitely_wrong(result: Tensor) -> None:
    assert relative_error((result,), (torch.ones(2),)) == float("inf")


def test_error_is_that_of_the_worst_result() -> None:
    right = torch.tensor([3.0, 4.0])
    found = relative_error((right, right + torch.tensor([0.0, 0.5])), (right, right))
    assert found == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("direction", "count"), [("forward", 1), ("grad_x", 1), ("grad_values", 1), ("step", 3)]
)
def test_direction_computes_what_its_name_says_and_nothing_else(direction: str, count: int) -> None:
    layer, inputs = nn.Linear(32, 64), Inputs.draw(case(), 0)
    expected = reference(direction, layer, inputs)
    results = make_call(direction, layer, inputs)()
    assert len(results) == count
    assert relative_error(results, expected) < 1e-6
    assert layer.weight.requires_grad == (direction != "grad_x")


def test_step_changes_the_weight_as_training_does() -> None:
    layer, inputs = nn.Linear(32, 64), Inputs.draw(case(), 0)
    before = layer.weight.detach().clone()
    make_call("step", layer, inputs)()
    assert (layer.weight != before).sum() == 1


def test_backend_that_is_not_there_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.get("cpu"), "unavailable", lambda: "no compiler")
    candidate = prepare(case(), "diagonal_cpu", Inputs.draw(case(), 0), 0)
    assert (candidate.status, candidate.reason) == ("skipped", "no compiler")


def test_arms_share_inputs_and_have_weights_of_their_own() -> None:
    inputs = Inputs.draw(case(), 3)
    assert torch.equal(inputs.x, Inputs.draw(case(), 3).x)
    assert inputs.x.count_nonzero() == inputs.x.numel()
    one, two = (stored_weight(ARMS["diagonal"].build(case(), seed)) for seed in (0, 1))
    assert not torch.equal(one, two)


def test_slow_arms_stay_outside_the_rounds() -> None:
    seconds = {"dense": 1e-3, "dense_again": 1e-3, "csr": 0.1, "diagonal": 1e-4}
    quick = seconds | {"nm": 2e-3, "condensed": 0.021}
    assert in_rounds(quick, PRECISIONS["quick"]) == [
        "dense",
        "dense_again",
        "diagonal",
        "csr",
        "nm",
    ]


def test_rounds_must_fit_the_time_of_a_case() -> None:
    slow = {"diagonal": 0.05, "dense": 0.05, "nm": 0.075, "block16": 0.08}
    assert in_rounds(slow, PRECISIONS["quick"]) == ["dense", "diagonal", "nm"]
