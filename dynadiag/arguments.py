"""The words of the command line: what each command takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Command = Callable[[argparse.Namespace], int]

RUNS = "where runs go (default: results/runs)"
TRAININGS = Path("results", "runs", "training")
RESUME = "go on with an interrupted run"
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
        commands: env, bench, accuracy, qualify, report, compare, reference and train.
    """
    whole = argparse.ArgumentParser(prog="dynadiag", description="Measure sparse layers.")
    every = whole.add_subparsers(required=True, metavar="COMMAND")
    every.add_parser("env", help="describe this machine and its software, as JSON")
    _bench(every.add_parser("bench", help="measure the layers on this machine and report"))
    _accuracy(
        every.add_parser("accuracy", help="train by every method, with many seeds, and report")
    )
    _qualify(every.add_parser("qualify", help="all about a CUDA card, in the time given"))
    _report(every.add_parser("report", help="turn runs into one page with figures"))
    _compare(_explained(every, "compare", "is it slower than before?", ENDINGS))
    _reference(every.add_parser("reference", help="make a run the one later runs are held against"))
    _train(every.add_parser("train", help="train a model by a sparse method, or many models"))
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
    bench.add_argument("--no-accuracy", action="store_true", help="train nothing afterwards")
    place = bench.add_mutually_exclusive_group()
    place.add_argument("--out", metavar="DIR", help=RUNS)
    place.add_argument("--resume", metavar="RUN", help=RESUME)


def _accuracy(accuracy: argparse.ArgumentParser) -> None:
    accuracy.add_argument(
        "--mode", help="quick, full, long or smoke (default: that of the run, or quick)"
    )
    accuracy.add_argument("--presets", default="", metavar="NAME,...", help="only these tasks")
    accuracy.add_argument("--methods", default="", metavar="NAME,...", help="only these methods")
    accuracy.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one a core)"
    )
    accuracy.add_argument("--no-report", action="store_true", help="write the records only")
    place = accuracy.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, metavar="DIR", help=RUNS)
    place.add_argument("--resume", type=Path, metavar="RUN", help=RESUME)


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


def _train(train: argparse.ArgumentParser) -> None:
    train.add_argument("preset", metavar="PRESET", help="model, data and recipe: digits-mlp, ...")
    train.add_argument(
        "--method", nargs="+", default=["dynadiag"], metavar="NAME", help="default: dynadiag"
    )
    train.add_argument(
        "--sparsity", nargs="+", type=float, default=[0.9], metavar="S", help="default: 0.9"
    )
    train.add_argument("--seed", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    train.add_argument(
        "--fold", type=int, default=0, metavar="N", help="part of the data tested; digits have four"
    )
    train.add_argument("--steps", type=int, help="optimizer steps")
    train.add_argument("--batch", type=int, help="examples a step")
    train.add_argument("--lr", type=float, help="learning rate after the warm-up")
    train.add_argument("--weight-decay", type=float)
    train.add_argument("--distribution", help="compute (the default), uniform or erk")
    train.add_argument("--exclude", nargs="*", metavar="PATTERN", help="layers left dense")
    train.add_argument("--trace", metavar="LAYER", help="keep its topology at every update")
    for name, what in {"recipe": "recipe", "model": "model", "option": "method"}.items():
        train.add_argument(
            f"--{name}", nargs="+", default=[], metavar="NAME=VALUE", help=f"other {what} settings"
        )
    train.add_argument("--data", type=Path, metavar="DIR", help="where the data set is")
    train.add_argument("--device", help="default: a CUDA device where there is one")
    train.add_argument("--loaders", type=int, default=0, help="processes that prepare batches")
    train.add_argument(
        "--out", type=Path, default=TRAININGS, metavar="DIR", help="default: %(default)s"
    )
    way = train.add_mutually_exclusive_group()
    way.add_argument("--workers", type=int, help="processes for several runs (default: one a core)")
    way.add_argument("--print", action="store_true", help="print one command a run instead")
    way.add_argument(
        "--slurm",
        nargs="*",
        metavar="NAME=VALUE",
        help="submit to Slurm, with settings of submitit",
    )
