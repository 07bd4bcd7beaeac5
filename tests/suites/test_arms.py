"""Arms by device: which exist where, and why others do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from suites.arms import ARMS
from suites.calls import in_tf32
from suites.cases import Case
from suites.grid import FILES, load_mode

CASE = Case("forward", "768x3072", 4, "float32", 0.9)


@pytest.mark.parametrize("name", ["diagonal_cuda", "csr_cusparse", "nm24", "dense_tf32", "dia_ust"])
def test_arms_of_a_card_say_so_on_the_cpu(name: str) -> None:
    assert ARMS[name].why_not(CASE) == "it runs on cuda, not on cpu"


def test_arm_of_the_cpu_says_so_on_a_card() -> None:
    assert ARMS["diagonal_cpu"].why_not(CASE, "cuda") == "it runs on cpu, not on cuda"


def test_tf32_is_for_float32() -> None:
    reason = ARMS["dense_tf32"].why_not(replace(CASE, dtype="bfloat16"), "cuda")
    assert reason == "TF32 is a way to multiply float32, not bfloat16"
    assert ARMS["dense_tf32"].why_not(CASE, "cuda") is None


def test_arm_without_gradients_is_for_the_forward() -> None:
    reason = ARMS["dia_ust"].why_not(replace(CASE, direction="step"), "cuda")
    assert reason == "it computes forward only"


def test_two_of_four_keeps_half_whatever_the_case_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def why_not(inner: int, outer: int, sparsity: float, *rest: object, **more: object) -> None:
        asked.append(sparsity)

    monkeypatch.setattr(ARMS["nm24"].layer, "why_not", why_not)
    assert ARMS["nm24"].why_not(CASE, "cuda") is None
    assert asked == [0.5]


def test_tf32_holds_during_the_call_alone() -> None:
    def call() -> tuple[torch.Tensor, ...]:
        seen.append(torch.get_float32_matmul_precision())
        return ()

    seen: list[str] = []
    in_tf32(call)()
    assert seen == ["high"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_only_the_strict_dense_layer_is_the_baseline() -> None:
    baselines = {name for name, arm in ARMS.items() if arm.columns(None, CASE)["is_baseline"]}
    assert baselines == {"dense", "dense_again"}


@pytest.mark.parametrize("mode", ["smoke", "quick", "full", "control", "headline"])
def test_modes_of_a_card_name_known_arms_and_regimes(mode: str) -> None:
    cases = load_mode(FILES["cuda"], mode, ARMS).cases
    assert {case.regime for case in cases} <= {"cold", "warm", "eager"}
    assert {"cold", "eager"} <= {case.regime for case in cases}
    if mode != "control":
        assert all("diagonal_cpu" not in case.arms and "diagonal" in case.arms for case in cases)


def test_headline_covers_what_is_promised() -> None:
    cases = load_mode(FILES["cuda"], "headline", ARMS).cases
    assert {case.batch for case in cases} == {1, 197, 12608}
    assert {case.sparsity for case in cases} == {0.8, 0.9, 0.95, 0.99}
    assert {case.dtype for case in cases} == {"bfloat16", "float32"}
    assert {case.direction for case in cases} == {"forward", "step"}
