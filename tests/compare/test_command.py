from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynadiag import cli
from dynadiag.bench.records import Run
from dynadiag.bench.schema import dump
from dynadiag.compare import command, confirm
from dynadiag.compare.config import load
from dynadiag.compare.outcome import NotMeasurable

from .fake_runs import Fake, make_run
from .golden_files import GOLDEN, held

SLOW = Fake(seed=1, slow={("diagonal", 0): 1.4})
Write = Callable[[str, Fake], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def on_disk(name: str, fake: Fake) -> Path:
        run, folder = make_run(fake), tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(dump(run.header), encoding="utf-8")
        lines = "".join(dump(row) + "\n" for row in run.rows)
        (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
        return folder

    return on_disk


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No summary of a job, and no stored references but those of a test."""
    monkeypatch.delenv(command.SUMMARY, raising=False)
    monkeypatch.setattr(command, "folder_of", lambda slug: tmp_path / "stored" / slug)


def compare(*words: object) -> int:
    return cli.main(["compare", *map(str, words)])


def test_the_finding_is_printed_and_written_beside_the_run(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    now = write("now", Fake(seed=1))
    assert compare(now, write("then", Fake())) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("OK: 12 within limits")
    assert json.loads((now / "compare.json").read_text())["exit_code"] == 0
    assert (now / "compare.md").read_text(encoding="utf-8").startswith("## OK: ")
    assert {path.name for path in now.glob("compare-*")} == {
        "compare-bencher.json",
        "compare-smaller-is-better.json",
    }


def test_a_regression_exits_1(write: Write, tmp_path: Path) -> None:
    words = write("now", SLOW), write("then", Fake()), "--no-confirm", "--out", tmp_path / "out"
    assert compare(*words) == 1
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["status"] == "REGRESSION"


def test_a_moved_control_exits_3(write: Write) -> None:
    moved = replace(SLOW, slow={"dense_again": 1.1})
    assert compare(write("now", moved), write("then", Fake())) == 3


def test_a_failed_gate_outweighs_a_moved_control(write: Write) -> None:
    bad = Fake(slow={"dense_again": 1.1}, status={("diagonal", 0): "wrong"})
    assert compare(write("now", bad), write("then", Fake())) == 1


def test_the_summary_of_a_job_is_added_to(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n", encoding="utf-8")
    monkeypatch.setenv(command.SUMMARY, str(summary))
    compare(write("now", Fake(seed=1)), write("then", Fake()))
    assert summary.read_text(encoding="utf-8").startswith("# Before\n## OK: ")


def test_the_stored_reference_of_the_device_is_found(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stored").mkdir()
    write("stored/a-cpu-2c", Fake())
    assert compare(write("now", SLOW), "--no-confirm") == 1
    assert "regression" in capsys.readouterr().out


def test_without_a_reference_a_run_stands_alone(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(write("now", SLOW)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "OK: 12 speedups measured"


def test_another_schema_exits_2_in_one_line(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write("old", Fake(header={"schema_version": "7.0"}))
    assert compare(write("now", Fake()), old) == 2
    said = capsys.readouterr().err.replace(str(tmp_path), "...")
    held(GOLDEN / "schema_mismatch.txt", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "compare takes a RUN, or --base REV"),
        (["run", "--base", "HEAD"], "compare takes a RUN, or --base REV"),
        (["none"], "none is not a run folder"),
        (["run", "--preset", "fast"], "unknown preset fast; known: default, strict, permissive"),
        (["run", "--config", "none.toml"], "none.toml cannot be read"),
        (["--base", "HEAD", "--pairs", "1"], "2 <= pairs_least"),
    ],
)
def test_wrong_usage_exits_2_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_dump_config_prints_what_config_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare("--preset", "strict", "--dump-config") == 0
    path = tmp_path / "strict.toml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load(path) == load(preset="strict")


def test_require_gpu_without_one_exits_3(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(write("now", Fake()), "--require-gpu") == 3
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert compare("--base", "HEAD", "--require-gpu") == 3
    assert capsys.readouterr().err.count("--require-gpu") == 2


def test_base_passes_on_what_it_was_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def compare_base(revision: str, config: Any, out: Path, **more: Any) -> Any:
        asked.update(more, revision=revision, out=out, most=config.pairs_most)
        raise NotMeasurable("no run")

    monkeypatch.setattr(command, "compare_base", compare_base)
    words = "--base", "main", "--pairs", "5", "--device", "cpu", "--out", tmp_path
    assert compare(*words) == 3
    assert asked == {"revision": "main", "out": tmp_path, "most": 5, "device": "cpu"}
    assert capsys.readouterr().err == "dynadiag: no run\n"


@pytest.mark.parametrize(("again", "code"), [(SLOW, 1), (Fake(seed=5), 0)])
def test_a_regression_counts_only_if_a_fresh_process_shows_it(
    again: Fake, code: int, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def measure_again(run: Run, names: list[str], out: Path, number: int) -> Run:
        asked.append(names)
        return make_run(replace(again, seed=7))

    monkeypatch.setattr(confirm, "measure_again", measure_again)
    assert compare(write("now", SLOW), write("then", Fake())) == code
    assert asked == [["forward-768x768-b197-float32-s0.5"]]


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare("--help")
    assert "Exit codes, which do not change:\n  0  no regression" in capsys.readouterr().out
