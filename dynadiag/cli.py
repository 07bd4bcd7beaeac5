"""The command line: `dynadiag env | bench | accuracy | qualify | report | compare | ...`.

Only the standard library is imported here; each command imports what it needs when it runs, and
asks for missing optional packages before it starts.

Exit codes: 0 ok; 1 a case came out wrong, failed or regressed; 2 wrong usage or an unreadable
record (one line on standard error); 3 nothing can be measured here (one line too); 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from dynadiag.arguments import parser

if TYPE_CHECKING:
    import pytest

OK, WRONG, USAGE, UNMEASURABLE, INTERRUPTED = 0, 1, 2, 3, 130
CHECKOUT = Path(__file__).resolve().parent.parent
EXTRAS = {
    "bench": ("pytest", "pytest_benchmark", "tqdm"),
    "report": ("jinja2", "matplotlib", "pandas"),
    "train": ("safetensors", "scipy", "sklearn", "tqdm"),
}
# A bench run of this mode ends with the accuracy suite in the mode of the same name.
QUICK = "quick"
T = TypeVar("T")
# Passed on to the suites as they are, when given.
SUITE_OPTIONS = ("mode", "arms", "shapes", "device", "out", "resume", "seed")
# By pytest's exit code; 5 is "nothing to run": the run to resume was complete.
ENDINGS: dict[int, int] = {0: OK, 1: WRONG, 5: OK}


class CommandError(Exception):
    """A command that cannot go on; the message is the one line its user reads."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after the program's name; by default those of the process.
    """
    commands = {
        "env": _env,
        "bench": _bench,
        "accuracy": _accuracy,
        "qualify": _qualify,
        "report": _report,
        "compare": _compare,
        "reference": _reference,
        "train": _train,
    }
    arguments = parser(commands).parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except CommandError as error:
        print(f"dynadiag: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def _env(arguments: argparse.Namespace) -> int:
    import torch

    from dynadiag.bench.environment import header

    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(json.dumps(header(device=device), indent=2))
    return OK


class _Watch:
    """Remembers what a pytest session leaves behind: the folder of its run, and how it ended.

    The suites register an object named `dynadiag-run` whose attribute `folder` is the path.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.interrupted = False

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Note where the run is."""
        run = session.config.pluginmanager.get_plugin("dynadiag-run")
        self.folder = getattr(run, "folder", None)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note whether it was the user who ended it."""
        # Collection errors and pytest.exit() come through this hook too, as other types.
        self.interrupted = excinfo.type is KeyboardInterrupt


def _bench(arguments: argparse.Namespace) -> int:
    _require("bench", *(() if arguments.no_report else ("report",)))
    import pytest

    watch = _Watch()
    code = pytest.main(_pytest_words(arguments), plugins=[watch])
    if watch.interrupted:
        return _interrupted(watch.folder)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED and watch.folder is None:
        raise CommandError("no case to measure: none matches the selection")
    if code not in ENDINGS:
        return USAGE
    if watch.folder is None:
        return ENDINGS[code]
    try:
        trained = _accuracy_of_bench(arguments, watch.folder)
        if not arguments.no_report:
            print(_write_report([watch.folder], None))
    except KeyboardInterrupt:
        return _interrupted(watch.folder)
    return ENDINGS[code] or trained


def _accuracy_of_bench(arguments: argparse.Namespace, folder: Path) -> int:
    """Train for a run of all cases of the quick mode; say so where something is missing."""
    from dynadiag.bench.records import read_run

    chosen = (arguments.k, arguments.arms, arguments.shapes)
    if arguments.no_accuracy or any(chosen) or read_run(folder).header["mode"] != QUICK:
        return OK
    missing = _missing("train")
    if missing:
        print(f"no accuracy: {_remedy(missing, 'train')}", file=sys.stderr)
        return OK
    return _trained(QUICK, folder)


def _accuracy(arguments: argparse.Namespace) -> int:
    _require("train", *(() if arguments.no_report else ("report",)))
    chosen = {name: getattr(arguments, name) for name in ("presets", "methods", "workers")}
    folder, part = arguments.resume, {name: chosen[name] for name in ("presets", "methods")}
    if folder is None:
        mode = arguments.mode or QUICK
        folder = _explained(lambda: _suite("accuracy").start(mode, arguments.out, **part))
    try:
        code = _trained(arguments.mode, folder, **chosen)
    except KeyboardInterrupt:
        words = (f"--{name} {shlex.quote(str(each))} " for name, each in chosen.items() if each)
        return _interrupted(folder, "accuracy", "".join(words))
    print(f"records: {folder}")
    if not arguments.no_report:
        print(_write_report([folder], None))
    return code


def _trained(mode: str | None, folder: Path, **chosen: Any) -> int:
    """Train what is missing in a run; return the exit code."""
    failures = _explained(lambda: _suite("accuracy").train(mode, folder, **chosen))
    for failure in failures:
        print(failure, file=sys.stderr)
    return WRONG if failures else OK


def _explained(work: Callable[[], T]) -> T:
    """Do some work of a suite; what is wrong with its input or its records is one line."""
    from dynadiag.bench.records import RecordError
    from dynadiag.train.folder import TrainError

    try:
        return work()
    except (RecordError, TrainError, ValueError) as error:
        raise CommandError(str(error)) from error


def _suites() -> Path:
    suites = CHECKOUT / "suites"
    if not (suites / "conftest.py").is_file():
        raise CommandError(
            f"no suites at {suites}: they are not part of the installed package; "
            "clone the repository and run `pip install -e .` in it"
        )
    return suites


def _pytest_words(arguments: argparse.Namespace) -> list[str]:
    suites = _suites()
    given = {name: getattr(arguments, name) for name in SUITE_OPTIONS}
    return [
        str(suites),
        f"--rootdir={CHECKOUT}",
        f"--config-file={CHECKOUT / 'pyproject.toml'}",
        "--no-header",
        # A warning of some other torch is no reason to lose a case; the tests are stricter.
        "--pythonwarnings=default",
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
        *(("-k", arguments.k) if arguments.k is not None else ()),
        *(("--allow-shared",) if arguments.allow_shared else ()),
    ]


def _interrupted(folder: Path | None, command: str = "bench", words: str = "") -> int:
    if folder is None:
        print("interrupted before the first case", file=sys.stderr)
    else:
        under_nox = "NOX_CURRENT_SESSION" in os.environ
        start = f"nox -s {command} --" if under_nox else f"python -m dynadiag {command}"
        resume = f"{start} {words}--resume {shlex.quote(str(folder))}"
        print(f"interrupted; the records are kept, go on with: {resume}", file=sys.stderr)
    return INTERRUPTED


def _qualify(arguments: argparse.Namespace) -> int:
    _require("report")
    if arguments.minutes <= 0:
        raise CommandError(f"--minutes is {arguments.minutes:g}, but must be more than 0")
    module = _suite("qualify")
    try:
        done = module.command(arguments.minutes, arguments.out, allow_shared=arguments.allow_shared)
    except module.NotMeasurable as reason:
        print(f"dynadiag: {reason}", file=sys.stderr)
        return UNMEASURABLE
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    print(f"records: {done.folder}")
    print(_write_report([done.folder], None))
    return _ending(done)


def _suite(name: str) -> Any:
    """Import the command of a suite from the checkout, whose folder is on no path."""
    package = ModuleType("suites")
    package.__path__ = [str(_suites())]
    sys.modules.setdefault("suites", package)
    return importlib.import_module(f"suites.{name}.command")


def _ending(done: Any) -> int:
    if done.interrupted:
        return INTERRUPTED
    if done.failed:
        return WRONG
    return OK if done.measured else UNMEASURABLE


def _report(arguments: argparse.Namespace) -> int:
    _require("report")
    print(_write_report(arguments.runs, arguments.out))
    return OK


def _write_report(runs: Sequence[Path], out: Path | None) -> Path:
    from dynadiag.bench.records import RecordError
    from dynadiag.reports import write_report

    try:
        return write_report(runs, out)
    except (RecordError, OSError) as error:
        raise CommandError(str(error)) from error


def _compare(arguments: argparse.Namespace) -> int:
    from dynadiag.compare.command import run

    return run(arguments)


def _reference(arguments: argparse.Namespace) -> int:
    from dynadiag.compare.outcome import CompareError
    from dynadiag.compare.reference import refresh

    try:
        print(refresh(arguments.run))
    except CompareError as error:
        raise CommandError(str(error)) from error
    return OK


def _train(arguments: argparse.Namespace) -> int:
    _require("train")
    from dynadiag.train.command import train

    return train(arguments)


def _require(*extras: str) -> None:
    missing = _missing(*extras)
    if missing:
        raise CommandError(_remedy(missing, *extras))


def _missing(*extras: str) -> list[str]:
    return [name for extra in extras for name in EXTRAS[extra] if find_spec(name) is None]


def _remedy(missing: Sequence[str], *extras: str) -> str:
    return f"{', '.join(missing)} not installed: pip install 'dynadiag[{','.join(extras)}]'"
