"""The check of every kernel: what it reaches, and what it catches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dynadiag.bench.schema import check_row
from dynadiag.kernels import Backend
from dynadiag.kernels.cuda import Cuda
from dynadiag.kernels.cuda.device import Device
from dynadiag.kernels.cuda.launcher import Argument, Grid
from dynadiag.kernels.cuda.variants import Variant
from dynadiag.kernels.reference import Reference
from suites.qualify import kernels
from suites.qualify.kernels import CARDS, Noting, Problem, Subject, check, problems, unused
from tests.kernels.cuda.cards import KNOWN

PROBLEM = Problem("forward", "float32", 30, 20, 4, 3)


class Idle:
    """Launches nothing: results stay what the memory held."""

    def launch(
        self, variant: Variant, grid: Grid, block: int, shared_bytes: int, args: Sequence[Argument]
    ) -> None:
        pass


class Wrong(Reference):
    def grad_x(self, grad: Tensor, values: Tensor, offsets: Tensor, in_features: int) -> Tensor:
        return 1.01 * super().grad_x(grad, values, offsets, in_features)

    def grad_values(self, grad: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
        raise RuntimeError("misaligned address\nin a kernel")


def subject(backend: Backend) -> Subject:
    return Subject(backend, set())


def pretending(card: Device, changes: dict[str, Any]) -> Subject:
    used: set[Variant] = set()
    return Subject(Cuda(Noting(Idle(), used), lambda tensor: replace(card, **changes)), used)


@pytest.mark.parametrize("card", KNOWN, ids=lambda card: str(card.name))
def test_the_problems_reach_every_kernel_on_every_card(card: Device) -> None:
    tested = [pretending(card, changes) for changes in CARDS]
    for problem in problems():
        dtype = getattr(torch, problem.dtype)
        operands = {
            name: torch.empty(shape, dtype=dtype, device="meta")
            for name, shape in problem.shapes.items()
        }
        for each in tested:
            kernels.compute(each.backend, problem, operands)
        if not unused(tested):
            break
    assert unused(tested) == []


def test_right_product_has_its_error() -> None:
    row = check([subject(Reference())], PROBLEM, "cpu")
    check_row(row | {"run_id": "r"}, "row", extra=False)
    assert row["status"] == "ok"
    assert 0 < row["value"] < 1e-6


def test_one_wrong_subject_among_several_is_caught() -> None:
    tested = [subject(Reference()), subject(Wrong())]
    row = check(tested, replace(PROBLEM, direction="grad_x"), "cpu")
    assert (row["status"], row["n"]) == ("wrong", 2)
    assert row["value"] == pytest.approx(0.01, rel=1e-3)
    assert "float32 allows 1e-05" in row["reason"]


def test_product_that_raises_has_failed_with_one_line() -> None:
    row = check([subject(Wrong())], replace(PROBLEM, direction="grad_values"), "cpu")
    assert (row["status"], row["value"]) == ("failed", None)
    assert row["reason"] == "RuntimeError: misaligned address"


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_reference_passes_its_own_check_in_every_dtype(dtype: str, activation: str | None) -> None:
    problem = replace(PROBLEM, dtype=dtype, activation=activation)
    assert check([subject(Reference())], problem, "cpu")["status"] == "ok"


def test_problems_differ_in_their_case() -> None:
    every = list(problems())
    assert len({each.columns["case_id"] for each in every}) == len(every)
    assert {getattr(torch, each.dtype) for each in every} == set(Cuda.dtypes)
