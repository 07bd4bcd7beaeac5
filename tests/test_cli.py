"""The command line: what it prints, and how it exits."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dynadiag import cli
from dynadiag.bench.records import RecordError
from dynadiag.train.folder import RunFolder
from suites.accuracy import command
from suites.accuracy.grid import load
from suites.accuracy.search import rates

Bench = Callable[..., subprocess.CompletedProcess[str]]

# Suites as small as they can be: the same options and the same plugin as the real ones.
CONFTEST = """
from pathlib import Path
import pytest

class Run:
    folder = None

def pytest_addoption(parser):
    for name in ("--mode", "--arms", "--shapes", "--device", "--out", "--resume", "--seed"):
        parser.addoption(name)
    parser.addoption("--allow-shared", action="store_true")

def pytest_configure(config):
    if config.option.mode not in (None, "quick"):
        raise pytest.UsageError(f"unknown mode {config.option.mode!r}; known: quick")
    run = Run()
    run.folder = config.option.resume and Path(config.option.resume)
    config.pluginmanager.register(run, "dynadiag-run")

@pytest.fixture(autouse=True)
def recorded(pytestconfig):
    run = pytestconfig.pluginmanager.get_plugin("dynadiag-run")
    run.folder = Path(pytestconfig.option.out or "runs") / "one"
"""
CASES = """
import warnings

def test_good():
    warnings.warn("some other torch says so")

def test_wrong():
    assert False

def test_stopped():
    raise KeyboardInterrupt
"""
CONFIG = """
[tool.pytest.ini_options]
python_files = ["bench_*.py"]
filterwarnings = ["error"]
"""
# The child runs the suites of a temporary checkout, and a report that only names its place.
CHILD = """
import sys
from pathlib import Path
from dynadiag import cli
cli.CHECKOUT = Path(sys.argv[1])

def write_report(runs, out):
    if "stopped" in str(runs[0]):
        raise KeyboardInterrupt
    return runs[0] / "report.html"

cli._write_report = write_report
sys.exit(cli.main(["bench", *sys.argv[2:]]))
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    suites = tmp_path / "suites"
    suites.mkdir()
    (suites / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (suites / "bench_fake.py").write_text(CASES, encoding="utf-8")
    config = (
        '[tool.pytest.ini_options]\npython_files = ["bench_*.py"]\nfilterwarnings = ["error"]\n'
    )
    (tmp_path / "pyproject.toml").write_text(config, encoding="utf-8")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", CHILD, str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    return run


def test_bench_ends_with_the_path_of_the_report(bench: Bench) -> None:
    done = bench("-k", "good")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(Path("runs", "one", "report.html"))


def test_bench_without_a_report_writes_none(bench: Bench) -> None:
    done = bench("-k", "good", "--no-report")
    assert done.returncode == 0
    assert "report.html" not in done.stdout


def test_wrong_case_exits_1_and_is_reported(bench: Bench) -> None:
    done = bench("-k", "wrong")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith("report.html")


@pytest.mark.parametrize("session", [None, "bench"])
def test_interrupted_bench_tells_how_to_go_on(
    session: str | None, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOX_CURRENT_SESSION", raising=False)
    if session is not None:
        monkeypatch.setenv("NOX_CURRENT_SESSION", session)
    done = bench("-k", "good or stopped", "--out", "my runs")
    assert done.returncode == 130
    command = "nox -s bench --" if session else "python -m dynadiag bench"
    assert done.stderr.endswith(f" {command} --resume '{Path('my runs', 'one')}'\n")


def test_interrupted_report_tells_how_to_go_on(bench: Bench) -> None:
    done = bench("-k", "good", "--out", "stopped")
    assert done.returncode == 130
    assert done.stderr.endswith(f" --resume {Path('stopped', 'one')}\n")


def test_resuming_a_complete_run_writes_its_report(bench: Bench) -> None:
    done = bench("-k", "nothing", "--resume", "runs/one")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == str(Path("runs", "one", "report.html"))


def test_unknown_mode_exits_2_and_lists_the_known(bench: Bench) -> None:
    done = bench("--mode", "fast")
    assert done.returncode == 2
    assert "unknown mode 'fast'; known: quick" in done.stderr
    assert "Traceback" not in done.stderr


def test_selection_of_nothing_exits_2(bench: Bench) -> None:
    done = bench("-k", "nothing")
    assert done.returncode == 2
    assert "no case to measure" in done.stderr


def test_bench_outside_a_checkout_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "CHECKOUT", tmp_path)
    assert cli.main(["bench"]) == 2
    assert "clone the repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("bench", "bench,report"),
        ("qualify", "report"),
        ("report", "report"),
        ("train", "train"),
    ],
)
def test_missing_packages_are_named_with_their_extra(
    command: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = "sklearn" if command == "train" else "jinja2"
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == missing else object())
    words = [command, "something"] if command in ("report", "train") else [command]
    assert cli.main(words) == 2
    expected = f"dynadiag: {missing} not installed: pip install 'dynadiag[{extra}]'\n"
    assert capsys.readouterr().err == expected


def test_bench_passes_the_device_on(bench: Bench, tmp_path: Path) -> None:
    suite = tmp_path / "suites" / "bench_fake.py"
    suite.write_text(
        "def test_device(pytestconfig):\n"
        "    given = pytestconfig.option\n"
        "    assert (given.device, given.allow_shared) == ('cuda', True)\n"
    )
    done = bench("--device", "cuda", "--allow-shared", "--no-accuracy")
    assert done.returncode == 0, done.stdout


@dataclass
class Done:
    """What the stand-in of a qualification leaves behind."""

    folder: Path = Path("runs/one")
    interrupted: bool = False
    failed: bool = False
    measured: bool = True


class NotMeasurable(Exception):
    """As that of the suites."""


@pytest.fixture
def qualify(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(outcome: Done | Exception, *words: str) -> int:
        def command(minutes: float, out: Path, *, allow_shared: bool) -> Done:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        module = SimpleNamespace(command=command, NotMeasurable=NotMeasurable)
        monkeypatch.setattr(cli, "_suite", lambda name: module)
        monkeypatch.setattr(cli, "_write_report", lambda runs, out: runs[0] / "report.html")
        return cli.main(["qualify", *words])

    return run


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Done(), 0),
        (Done(failed=True), 1),
        (Done(measured=False), 3),
        (Done(interrupted=True, failed=True), 130),
    ],
)
def test_qualify_ends_with_its_report_and_says_how_it_went(
    outcome: Done, code: int, qualify: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert qualify(outcome) == code
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["records: runs/one", "runs/one/report.html"]


def test_qualify_without_a_card_is_one_line(
    qualify: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert qualify(NotMeasurable("torch sees no CUDA device")) == 3
    assert capsys.readouterr().err == "dynadiag: torch sees no CUDA device\n"


def test_qualify_that_cannot_write_is_a_usage_error(
    qualify: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert qualify(RecordError("cannot write runs; choose another folder")) == 2
    assert capsys.readouterr().err.startswith("dynadiag: cannot write runs")


@pytest.mark.parametrize("minutes", ["0", "-1"])
def test_qualify_needs_time(
    minutes: str, qualify: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert qualify(Done(), f"--minutes={minutes}") == 2
    assert "must be more than 0" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_qualify_runs_from_anywhere_and_tells_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "dynadiag", "qualify", "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("dynadiag: no card can be qualified here: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_report_of_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "none") in error
    assert error.count("\n") == 1


def test_resume_and_out_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", "--resume", "a", "--out", "b"])
    assert left.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_env_prints_the_header_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env"]) == 0
    assert "schema_version" in json.loads(capsys.readouterr().out)


def test_module_runs_as_a_program() -> None:
    command = [sys.executable, "-P", "-m", "dynadiag", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    names = ("env", "bench", "qualify", "report", "compare", "reference", "train")
    assert all(name in done.stdout for name in names)


def test_accuracy_names_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["accuracy", "--mode", "fast", "--out", str(tmp_path)]) == 2
    assert "unknown mode 'fast'; known: full, long, quick, smoke" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert cli.main(["accuracy", "--resume", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_only_a_quick_bench_ends_with_trainings(tmp_path: Path) -> None:
    folder = command.start("full", tmp_path)
    words = argparse.Namespace(k=None, arms=None, shapes=None, no_accuracy=False)
    assert cli._accuracy_of_bench(words, folder) == 0
    assert not (folder / command.TRAINING).exists()


def test_a_damaged_training_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = command.start("smoke", tmp_path)
    grid = load("smoke")
    (run, *_) = grid.finals("digits-mlp", rates(grid, "digits-mlp", {}))
    result = RunFolder(folder / command.TRAINING, run).path / "result.json"
    result.parent.mkdir(parents=True)
    result.write_text("{")
    assert cli.main(["accuracy", "--methods", "dense", "--resume", str(folder)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert line.startswith("dynadiag: ")
