from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .trainings import are_equal
from .two_ranks import SCENARIOS, STEPS, run_ranks, train_alone

Seen = list[dict[Any, Any]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What two processes saw, started once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        # The processes import this folder by the name that it has here.
        patch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])
        return run_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("wrapper", "method"), SCENARIOS)
def test_ranks_hold_the_same_bits(ranks: Seen, wrapper: str, method: str) -> None:
    first, second = (seen[wrapper, method] for seen in ranks)
    assert are_equal(first, second)


@pytest.mark.parametrize(("wrapper", "method"), SCENARIOS)
def test_two_ranks_train_like_one_process_with_both_batches(
    ranks: Seen, wrapper: str, method: str
) -> None:
    together, alone = ranks[0][wrapper, method], train_alone(method)
    assert are_equal(together["paths"], alone["paths"])
    assert together["state"] == alone["state"]
    for part in ("values", "moments"):
        torch.testing.assert_close(together[part], alone[part], rtol=1e-7, atol=1e-9)


def test_the_topologies_compared_did_move(ranks: Seen) -> None:
    for scenario in SCENARIOS:
        paths = ranks[0][scenario]["paths"]
        moved = sum(not are_equal(paths[step], paths[step + 1]) for step in range(STEPS - 1))
        assert moved >= 3, scenario


def test_ranks_that_disagree_are_told_alike(ranks: Seen) -> None:
    assert ranks[0]["error"] == ranks[1]["error"]
    assert ranks[0]["error"].startswith(
        "the topology of 2 on ranks [1] differs from that on rank 0"
    )
