"""The processes of one run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dynadiag.train import Place, create, execute, read_result
from dynadiag.train.build import build
from dynadiag.train.command import command_of
from dynadiag.train.ranks import Ranks, joined
from dynadiag.train.step import Stepper

CPU = torch.device("cpu")


def test_one_process_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with joined("cpu") as ranks:
        assert ranks == Ranks(CPU, 0, 1)
        assert ranks.first


def test_draws_follow_from_the_key_and_the_rank() -> None:
    def draw(rank: int, *key: int) -> float:
        Ranks(CPU, rank, 2).reseed(*key)
        return torch.rand(()).item()

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert len({draw(0, 1, 2), draw(1, 1, 2), draw(0, 1, 3), draw(0, 2, 2)}) == 4


def test_numbers_of_all_processes_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.arange(7.0)

    def all_gather_object(parts: list[Any], mine: torch.Tensor) -> None:
        assert mine.equal(whole[1::3])
        parts[:] = [whole[rank::3] for rank in range(3)]

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    assert Ranks(CPU, 1, 3).gather(whole[1::3], 7).equal(whole)


def test_batch_that_processes_cannot_share_is_refused() -> None:
    run = create("digits-mlp", "dense", batch=6, accumulate=3)
    parts = build(run, None, CPU)
    with pytest.raises(ValueError, match="6 is not divisible into 3 parts on each of 4"):
        Stepper(run, parts, Ranks(CPU, 0, 4))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rigl", "dynadiag"])
def test_two_processes_train_as_one(method: str, tmp_path: Path) -> None:
    run = create("digits-mlp", method, steps=8, batch=32, evaluate=4, clip=1.0)
    alone = execute(run, Place(tmp_path / "alone", device="cpu"))
    words = command_of(run, Place(tmp_path / "two", device="cpu"))
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node=2"]
    port = f"--master-port={29500 + os.getpid() % 2000}"
    subprocess.run([*launcher, port, *words[1:]], check=True, capture_output=True, timeout=300)
    both = read_result(tmp_path / "two" / run.name)
    assert both.test["loss"] == pytest.approx(alone.test["loss"], rel=1e-4)
    assert both.sparsity == alone.sparsity
