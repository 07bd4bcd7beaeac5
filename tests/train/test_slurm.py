"""Runs as jobs of a cluster, tried with submitit's executor that needs none."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from dynadiag.train import Place, create, submit
from dynadiag.train.folder import TrainError
from dynadiag.train.slurm import _Job


# The debug executor of submitit leaves its logs open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_execute_their_runs(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    runs = [create("digits-mlp", "static", steps=4, batch=32, seed=seed) for seed in range(2)]
    jobs = submit(runs, Place(tmp_path, device="cpu"), cluster="debug", timeout_min=1)
    assert [job.result().folder for job in jobs] == [tmp_path / run.name for run in runs]


def test_preempted_job_is_submitted_again_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    run, place = create("digits-mlp"), Place(tmp_path)
    again = _Job().checkpoint(run, place)
    assert isinstance(again.function, _Job)
    assert again.args == (run, place)


def test_missing_submitit_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "submitit":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrainError, match=r"pip install 'dynadiag\[slurm\]'"):
        submit([], Place(tmp_path))
