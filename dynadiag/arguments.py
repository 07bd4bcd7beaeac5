"""The words of the command line: what each command takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Command = Callable[[argparse.Namespace], int]

RUNS = "where runs go (default: results/runs)"
SHARED = "measure though others use the card"
ENDINGS = """\
Exit codes, which do not change:
  0  no regression: faster, the same, or undecided
  1  a confirmed regression; or a wrong result, more bytes, an arm that no longer runs
  2  wrong usage, or a record that cannot be read
  3  nothing can be said: a control moved, too much noise, another device, no GPU
The first of 2, 1, 3, 0 that applies. 130 if interrupted.
"""


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser; what it reads has the command to call as `command`.

    Args:
        commands: env, bench, qualify, report, compare and reference.
    """
    whole = argparse.ArgumentParser(prog="dynadiag", description="Measure sparse layers.")
    every = whole.add_subparsers(required=True, metavar="COMMAND")
    every.add_parser("env", help="describe this machine and its software, as JSON")
    _bench(every.add_parser("bench", help="measure the layers on this machine and report"))
    _qualify(every.add_parser("qualify", help="all about a CUDA card, in the time given"))
    _report(every.add_parser("report", help="turn runs into one page with figures"))
    _compare(_explained(every, "compare", "is it slower than before?", ENDINGS))
    _reference(every.add_parser("reference", help="make a run the one later runs are held against"))
    for name, command in commands.items():
        every.choices[name].set_defaults(command=command)
    return whole


def _bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--mode", help="how much to measure: quick (the default), full or smoke")
    bench.add_argument("-k", metavar="EXPR", help="only cases whose name matches, as in pytest")
    bench.add_argument("--arms", metavar="NAME,...", help="only these ways to compute")
    bench.add_argument("--shapes", metavar="NAME,...", help="only these shapes or models")
    bench.add_argument("--seed", type=int, help="of inputs, weights and order (default: 0)")
    bench.add_argument("--device", help="cpu, cuda, or auto (the default): cuda where there is one")
    bench.add_argument("--allow-shared", action="store_true", help=SHARED)
    bench.add_argument("--no-report", action="store_true", help="write the records only")
    place = bench.add_mutually_exclusive_group()
    place.add_argument("--out", metavar="DIR", help=RUNS)
    place.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")


def _qualify(qualify: argparse.ArgumentParser) -> None:
    qualify.add_argument("--minutes", type=float, default=9.0, help="default: %(default)g")
    qualify.add_argument("--out", metavar="DIR", type=Path, help=RUNS)
    qualify.add_argument("--allow-shared", action="store_true", help=SHARED)


def _report(report: argparse.ArgumentParser) -> None:
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder of records")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: the first run's folder")


def _explained(every: Any, name: str, about: str, endings: str) -> argparse.ArgumentParser:
    kept = argparse.RawDescriptionHelpFormatter
    added: argparse.ArgumentParser = every.add_parser(
        name, help=about, epilog=endings, formatter_class=kept
    )
    return added


def _compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a folder of records")
    compare.add_argument(
        "reference",
        nargs="?",
        type=Path,
        metavar="REFERENCE",
        help="a run of the same device (default: that in results/reference, if there is one)",
    )
    compare.add_argument(
        "--base", metavar="REV", help="measure this checkout against a commit, in turns"
    )
    compare.add_argument(
        "--pairs", type=int, metavar="N", help="of processes, at most (with --base)"
    )
    compare.add_argument("--device", help="cpu or cuda (with --base)")
    compare.add_argument("--config", type=Path, metavar="FILE", help="TOML with a table [compare]")
    compare.add_argument("--preset", metavar="NAME", help="default, strict or permissive")
    compare.add_argument("--dump-config", action="store_true", help="print the rules as TOML")
    compare.add_argument(
        "--out", type=Path, metavar="DIR", help="for compare.json and compare.md (default: RUN)"
    )
    compare.add_argument(
        "--no-confirm", action="store_true", help="fail without measuring a regression again"
    )
    compare.add_argument("--require-gpu", action="store_true", help="without a GPU, end with 3")


def _reference(reference: argparse.ArgumentParser) -> None:
    reference.add_argument("run", type=Path, metavar="RUN", help="of this device, by a clean tree")
