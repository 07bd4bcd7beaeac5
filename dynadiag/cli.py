"""The command line: `dynadiag env | bench | qualify | report | compare | reference`.

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
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dynadiag.arguments import parser

if TYPE_CHECKING:
    import pytest

OK, WRONG, USAGE, UNMEASURABLE, INTERRUPTED = 0, 1, 2, 3, 130
CHECKOUT = Path(__file__).resolve().parent.parent
EXTRAS = {
    "bench": ("pytest", "pytest_benchmark", "tqdm"),
    "report": ("jinja2", "matplotlib", "pandas"),
}
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
        "qualify": _qualify,
        "report": _report,
        "compare": _compare,
        "reference": _reference,
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
    if watch.folder is not None and not arguments.no_report:
        try:
            print(_write_report([watch.folder], None))
        except KeyboardInterrupt:
            return _interrupted(watch.folder)
    return ENDINGS[code]


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


def _interrupted(folder: Path | None) -> int:
    if folder is None:
        print("interrupted before the first case", file=sys.stderr)
    else:
        under_nox = "NOX_CURRENT_SESSION" in os.environ
        bench = "nox -s bench --" if under_nox else "python -m dynadiag bench"
        resume = f"{bench} --resume {shlex.quote(str(folder))}"
        print(f"interrupted; the records are kept, go on with: {resume}", file=sys.stderr)
    return INTERRUPTED


def _qualify(arguments: argparse.Namespace) -> int:
    _require("report")
    if arguments.minutes <= 0:
        raise CommandError(f"--minutes is {arguments.minutes:g}, but must be more than 0")
    module = _qualification()
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


def _qualification() -> Any:
    """Import the qualification from the checkout, whose folder is on no path."""
    package = ModuleType("suites")
    package.__path__ = [str(_suites())]
    sys.modules.setdefault("suites", package)
    return importlib.import_module("suites.qualify.command")


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


def _require(*extras: str) -> None:
    missing = [name for extra in extras for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise CommandError(
            f"{', '.join(missing)} not installed: pip install 'dynadiag[{','.join(extras)}]'"
        )
