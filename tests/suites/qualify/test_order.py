"""Which cases come first."""

from __future__ import annotations

from suites.arms import ARMS
from suites.grid import FILES, load_mode
from suites.qualify.order import by_importance

CASES = by_importance(load_mode(FILES["cuda"], "headline", ARMS).cases)
VIT = {"768x768", "768x2304", "768x3072", "3072x768"}


def test_the_headline_comes_first_for_all_layers_of_the_model() -> None:
    first = CASES[:4]
    assert {case.shape for case in first} == VIT
    assert {(case.sparsity, case.dtype, case.regime, case.batch) for case in first} == {
        (0.9, "bfloat16", "cold", 12608)
    }
    assert {case.direction for case in first} == {"forward"}


def test_the_figures_to_reach_are_among_the_first() -> None:
    early = {(case.direction, case.dtype) for case in CASES[:24] if case.regime == "cold"}
    assert {("forward", "bfloat16"), ("forward", "float32"), ("step", "bfloat16")} <= early


def test_every_case_has_a_place() -> None:
    assert len(CASES) == len({case.id for case in CASES}) == 2 * 4 * 3 * 2 * 4 * 2
    assert CASES[-1].sparsity == 0.8


def test_order_does_not_depend_on_that_of_the_grid() -> None:
    assert by_importance(reversed(CASES)) == CASES
