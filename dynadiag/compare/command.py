"""`dynadiag compare`: what is compared with what, and where the finding goes."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from dynadiag.bench import files
from dynadiag.bench.records import RecordError, Run, read_run
from dynadiag.bench.schema import dump, plain

from . import exports, markdown, terminal
from .alone import judge_alone
from .base import CHECKOUT, compare_base
from .config import Config, load
from .confirm import compare_and_confirm
from .judge import compare
from .outcome import CompareError, Comparison, ExitCode, NotMeasurable
from .reference import folder_of

SUMMARY = "GITHUB_STEP_SUMMARY"


def run(arguments: argparse.Namespace) -> ExitCode:
    """Compare as the command line asks, print and write the finding, and return how it ended."""
    try:
        config = _config(arguments)
        if arguments.dump_config:
            print(config.dump(), end="")
            return ExitCode.OK
        _check(arguments)
        out = _out(arguments)
        found = _found(arguments, config, out)
        _publish(found, out)
        return found.exit_code
    except NotMeasurable as reason:
        print(f"dynadiag: {reason}", file=sys.stderr)
        return ExitCode.NOT_MEASURABLE
    except (CompareError, RecordError, OSError) as error:
        print(f"dynadiag: {error}", file=sys.stderr)
        return ExitCode.USAGE


def _config(arguments: argparse.Namespace) -> Config:
    config = load(arguments.config, arguments.preset)
    if arguments.no_confirm:
        config = replace(config, confirm=0)
    if arguments.pairs is not None:
        least = min(config.pairs_least, arguments.pairs)
        config = replace(config, pairs_least=least, pairs_most=arguments.pairs)
    return config


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.run is None) == (arguments.base is None):
        raise CompareError("compare takes a RUN, or --base REV to measure two commits")
    if arguments.require_gpu and arguments.base is not None and not torch.cuda.is_available():
        raise NotMeasurable("--require-gpu, and torch sees no CUDA device")


def _out(arguments: argparse.Namespace) -> Path:
    if arguments.out is not None:
        return Path(arguments.out)
    if arguments.run is not None:
        return Path(arguments.run)
    return CHECKOUT / "results" / "runs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-compare"


def _found(arguments: argparse.Namespace, config: Config, out: Path) -> Comparison:
    if arguments.base is not None:
        return compare_base(arguments.base, config, out, device=arguments.device)
    now = read_run(arguments.run)
    if arguments.require_gpu and now.header["device"].get("type") != "cuda":
        raise NotMeasurable(f"--require-gpu, and {arguments.run} is a run without one")
    reference = _reference(arguments.reference, now)
    if reference is None:
        return judge_alone(now, config)
    if config.confirm:
        return compare_and_confirm(now, reference, config, out)
    return compare(now, reference, config)


def _reference(given: Path | None, now: Run) -> Run | None:
    """The reference asked for, or else that of the device, or None where there is none."""
    if given is not None:
        return read_run(given)
    stored = folder_of(str(now.header["device"].get("slug")))
    return read_run(stored) if (stored / "run.json").is_file() else None


def _publish(found: Comparison, out: Path) -> None:
    summary = markdown.text(found)
    out.mkdir(parents=True, exist_ok=True)
    for name, value in {
        "compare.json": exports.plain(found),
        "compare-bencher.json": exports.bencher(found),
        "compare-smaller-is-better.json": exports.smaller_is_better(found),
    }.items():
        files.replace(out / name, dump(plain(value), indent=2))
    files.replace(out / "compare.md", summary)
    if os.environ.get(SUMMARY):
        with Path(os.environ[SUMMARY]).open("a", encoding="utf-8") as file:
            file.write(summary)
    print(terminal.text(found), end="")
