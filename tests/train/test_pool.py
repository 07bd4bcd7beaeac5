"""Many runs in a few processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dynadiag.train import Place, Run, create, pool, run_all
from dynadiag.train.folder import TrainError
from dynadiag.train.loop import execute
from dynadiag.train.member import _environment


def tiny(seed: int = 0, steps: int = 4, method: str = "static") -> Run:
    return create("digits-mlp", method, steps=steps, batch=32, seed=seed)


class Crew:
    """Members that execute in this process, without the threads of a run."""

    def __init__(self, place: Place, slot: int) -> None:
        self.place = place

    started: list[Run] = []  # noqa: RUF012

    def execute(self, run: Run) -> str | None:
        self.started.append(run)
        return f"{run.name}: it broke" if run.seed == 1 else None

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_longest_runs_start_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crew, "started", [])
    monkeypatch.setattr(pool, "Member", Crew)
    runs = [tiny(steps=steps) for steps in (10, 30, 20)]
    assert run_all(runs, Place(tmp_path), workers=1) == []
    assert [run.recipe.steps for run in Crew.started] == [30, 20, 10]


def test_failure_stops_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crew, "started", [])
    monkeypatch.setattr(pool, "Member", Crew)
    with pytest.raises(TrainError, match=r"1 of 3 runs failed:\n.*-seed1-.* it broke \(see .*log"):
        run_all([tiny(seed) for seed in range(3)], Place(tmp_path), workers=2)
    assert {run.seed for run in Crew.started} == {0, 1, 2}


@pytest.mark.parametrize("workers", [0, -3])
def test_a_pool_has_workers(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError, match=f"workers is {workers}, but must be at least 1"):
        run_all([tiny()], Place(tmp_path), workers=workers)


def test_finished_runs_need_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, device="cpu")
    done = execute(tiny(), place)
    monkeypatch.setattr(pool, "Member", None)
    assert run_all([tiny(), tiny()], place) == [done]


def test_each_process_gets_one_thread_and_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    seen = [_environment(slot) for slot in range(3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in seen] == ["4", "7", "4"]
    assert {each["OMP_NUM_THREADS"] for each in seen} == {"1"}


def test_processes_execute_and_keep_the_log_of_a_failure(tmp_path: Path) -> None:
    place = Place(tmp_path, device="cpu")
    good, bad = tiny(), replace(tiny(), method="nothing")
    with pytest.raises(TrainError, match=r"1 of 2 runs failed:\n.*there is no method 'nothing'"):
        run_all([good, bad], place, workers=1)
    assert "Traceback" in (tmp_path / bad.name / "log.txt").read_text()
    [result] = run_all([good], place)
    alone = execute(good, Place(tmp_path / "alone", device="cpu"))
    assert result.test == pytest.approx(alone.test, rel=1e-5)  # as many threads as there are cores


CHILD = """
import sys
from pathlib import Path
from dynadiag.train import Place, create, run_all

run = create("digits-mlp", "rigl", steps=100000, batch=32, evaluate=100000)
run_all([run], Place(Path(sys.argv[1]), device="cpu"), workers=1)
"""


@pytest.mark.slow
def test_interrupted_pool_leaves_checkpoints_and_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    assert len(list(tmp_path.glob("*/last.pt"))) == 1
