from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dynadiag.bench.records import Run
from dynadiag.bench.schema import dump
from dynadiag.compare import confirm
from dynadiag.compare.config import Config
from dynadiag.compare.judge import compare
from dynadiag.compare.outcome import CompareError, Kind, Status

from .fake_runs import Fake, make_run

CONFIG = Config()
REFERENCE = make_run(Fake(cases=16))
NAME = "forward-768x768-b197-float32-s0.5"


def found(fake: Fake, *again: Run) -> Any:
    return compare(make_run(fake), REFERENCE, CONFIG, again)


def test_only_suspicious_cases_are_measured_again() -> None:
    slow = found(Fake(cases=16, seed=1, slow={("diagonal", 0): 1.3}))
    assert confirm.suspicious(slow, CONFIG) == [NAME]


def test_of_a_uniform_slowdown_some_cases_are_measured_again() -> None:
    names = confirm.suspicious(found(Fake(cases=16, seed=1, slow={"diagonal": 1.1})), CONFIG)
    assert len(names) == len(set(names)) == confirm.MOST


def test_what_a_fresh_process_does_not_show_is_taken_back() -> None:
    slow = Fake(cases=16, seed=1, slow={("diagonal", 0): 1.3})
    fresh = make_run(Fake(cases=1, seed=9))
    taken = confirm.confirmed(found(slow, fresh), compare(fresh, REFERENCE, CONFIG), CONFIG)
    assert taken.status is Status.OK
    assert {each.kind for each in taken.changes if each.name == NAME} == {Kind.UNCONFIRMED}


def test_a_case_that_was_not_measured_again_is_not_confirmed() -> None:
    slow = found(Fake(cases=16, seed=1, slow={("diagonal", 5): 1.3}))
    fresh = compare(make_run(Fake(cases=1, seed=9)), REFERENCE, CONFIG)
    assert confirm.confirmed(slow, fresh, CONFIG).status is Status.OK


def test_a_gate_needs_no_confirmation(tmp_path: Path) -> None:
    bad = make_run(Fake(cases=16, status={("diagonal", 0): "wrong"}, slow={"diagonal": 2.0}))
    assert confirm.compare_and_confirm(bad, REFERENCE, CONFIG, tmp_path).gates


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A stand-in of `dynadiag bench`: writes a run with `header` and ends with `code`."""
    state: dict[str, Any] = {"code": 0, "header": {}}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        state["words"] = command[5:]
        folder = tmp_path / "again-1" / "one"
        if state["code"] in (0, 1):
            made = make_run(Fake(cases=1, header=state["header"]))
            folder.mkdir(parents=True)
            (folder / "run.json").write_text(dump(made.header), encoding="utf-8")
            rows = "".join(dump(row) + "\n" for row in made.rows)
            (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
        return subprocess.CompletedProcess(command, state["code"])

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(confirm, "device_slug", lambda device: "a-cpu-2c")
    return state


@pytest.mark.parametrize("code", [0, 1])
def test_cases_are_measured_again_as_before_with_another_seed(
    code: int, bench: dict[str, Any], tmp_path: Path
) -> None:
    bench["code"] = code
    again = confirm.measure_again(REFERENCE, ["a", "b"], tmp_path, 1)
    assert again.folder == tmp_path / "again-1" / "one"
    words = ["-k", "a or b", "--no-report", f"--out={tmp_path / 'again-1'}", "--mode=quick"]
    assert bench["words"] == [*words, "--device=cpu", "--seed=1"]


def test_a_benchmark_that_cannot_start_is_an_error(bench: dict[str, Any], tmp_path: Path) -> None:
    bench["code"] = 2
    with pytest.raises(CompareError, match="dynadiag bench ended with 2"):
        confirm.measure_again(REFERENCE, ["a"], tmp_path, 1)


def test_other_kernels_confirm_nothing(bench: dict[str, Any], tmp_path: Path) -> None:
    bench["header"] = {"kernel_hash": "ffffffffffff"}
    with pytest.raises(CompareError, match=r"kernels abcabcabcabc, here are kernels ffffffffffff"):
        confirm.measure_again(REFERENCE, ["a"], tmp_path, 1)


def test_another_machine_confirms_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(confirm, "device_slug", lambda device: "another-8c")
    with pytest.raises(CompareError, match="confirmed on a-cpu-2c, and this machine is another-8c"):
        confirm.measure_again(REFERENCE, ["a"], tmp_path, 1)
