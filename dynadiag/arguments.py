"""The words of the command line: what each command takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

Command = Callable[[argparse.Namespace], int]

RUNS = "where runs go (default: results/runs)"
SHARED = "measure though others use the card"


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser; what it reads has the command to call as `command`.

    Args:
        commands: env, bench, qualify and report.
    """
    whole = argparse.ArgumentParser(prog="dynadiag", description="Measure sparse layers.")
    every = whole.add_subparsers(required=True, metavar="COMMAND")
    every.add_parser("env", help="describe this machine and its software, as JSON")
    _bench(every.add_parser("bench", help="measure the layers on this machine and report"))
    _qualify(every.add_parser("qualify", help="all about a CUDA card, in the time given"))
    _report(every.add_parser("report", help="turn runs into one page with figures"))
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
