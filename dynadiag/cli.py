"""The command line: `dynadiag env | bench | report`.

Only the standard library is imported here; each command imports what it needs when it runs, and
asks for missing optional packages before it starts.

Exit codes: 0 ok; 1 a case came out wrong or failed; 2 wrong usage or an unreadable record (one line
on standard error); 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

OK, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130
CHECKOUT = Path(__file__).resolve().parent.parent
EXTRAS = {
    "bench": ("pytest", "pytest_benchmark", "tqdm"),
    "report": ("jinja2", "matplotlib", "pandas"),
}
# Passed on to the suites as they are, when given.
SUITE_OPTIONS = ("mode", "arms", "shapes", "out", "resume", "seed")
# By pytest's exit code; 5 is "nothing to run": the run to resume was complete.
ENDINGS: dict[int, int] = {0: OK, 1: WRONG, 5: OK}


class CommandError(Exception):
    """A command that cannot go on; the message is the one line its user reads."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after the program's name; by default those of the process.
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except CommandError as error:
        print(f"dynadiag: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dynadiag", description="Measure sparse layers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    env = commands.add_parser("env", help="describe this machine and its software, as JSON")
    env.set_defaults(command=_env)

    bench = commands.add_parser("bench", help="measure the layers on this machine and report")
    bench.add_argument("--mode", help="how much to measure: quick (the default), full or smoke")
    bench.add_argument("-k", metavar="EXPR", help="only cases whose name matches, as in pytest")
    bench.add_argument("--arms", metavar="NAME,...", help="only these ways to compute")
    bench.add_argument("--shapes", metavar="NAME,...", help="only these shapes or models")
    bench.add_argument("--seed", type=int, help="of inputs, weights and order (default: 0)")
    bench.add_argument("--no-report", action="store_true", help="write the records only")
    place = bench.add_mutually_exclusive_group()
    place.add_argument("--out", metavar="DIR", help="where runs go (default: results/runs)")
    place.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")
    bench.set_defaults(command=_bench)

    report = commands.add_parser("report", help="turn runs into one page with figures")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder of records")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: the first run's folder")
    report.set_defaults(command=_report)
    return parser


def _env(arguments: argparse.Namespace) -> int:
    from dynadiag.bench.environment import header

    print(json.dumps(header(), indent=2))
    return OK


class _Watch:
    """Remembers what a pytest session leaves behind: the folder of its run, and how it ended.

    The suites register an object named `dynadiag-run` whose attribute `folder` is the path.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.interrupted = False

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        run = session.config.pluginmanager.get_plugin("dynadiag-run")
        self.folder = getattr(run, "folder", None)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
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


def _pytest_words(arguments: argparse.Namespace) -> list[str]:
    suites = CHECKOUT / "suites"
    if not (suites / "conftest.py").is_file():
        raise CommandError(
            f"no suites at {suites}: they are not part of the installed package; "
            "clone the repository and run `pip install -e .` in it"
        )
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


def _require(*extras: str) -> None:
    missing = [name for extra in extras for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise CommandError(
            f"{', '.join(missing)} not installed: pip install 'dynadiag[{','.join(extras)}]'"
        )
