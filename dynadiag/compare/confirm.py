"""A regression counts only if a fresh process shows it too."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynadiag.bench.environment import device_slug
from dynadiag.bench.records import RecordError, Run, read_run

from .config import Config
from .judge import compare
from .outcome import Change, CompareError, Comparison, Kind

MOST = 12  # cases that are measured again: a uniform slowdown shows in them as well as in all


def compare_and_confirm(now: Run, reference: Run, config: Config, out: Path) -> Comparison:
    """Judge a run; where time has regressed, measure the suspicious cases again first.

    Args:
        now: measured on this machine, with the kernels that are here.
        reference: what it is held against.
        config: the limits; its `confirm` is the number of fresh processes.
        out: folder for the records of the fresh processes.

    Raises:
        CompareError: the run is of another machine or of other kernels.
    """
    found = compare(now, reference, config)
    if found.gates or found.reasons or not found.regressions or not config.confirm:
        return found
    names = suspicious(found, config)
    again = [measure_again(now, names, out, number) for number in range(1, config.confirm + 1)]
    fresh = compare(again[0], reference, config, again[1:])
    return confirmed(compare(now, reference, config, again), fresh, config)


def suspicious(found: Comparison, config: Config) -> list[str]:
    """The names of the cases that may have regressed, at most `MOST`.

    Where only the mean of all cases has, they are taken by their ids, which are hashes: a choice
    of the slowest would be slower than the rest whatever the truth.
    """
    doubted = {
        each.name
        for each in found.changes
        if each.kind is Kind.REGRESSION
        or (
            each.kind is Kind.AMBIGUOUS
            and each.ratio.value < 1 - config.limits_of(each.columns).fail
        )
    }
    by_id = dict.fromkeys(each.name for each in sorted(found.changes, key=lambda each: each.case))
    if any(each.kind is Kind.REGRESSION for each in found.overall):
        return list(by_id)[:MOST]
    return [name for name in by_id if name in doubted][:MOST]


def confirmed(found: Comparison, fresh: Comparison, config: Config) -> Comparison:
    """`found` with the regressions that fresh processes do not show too taken back.

    Args:
        found: of all processes together.
        fresh: of the fresh processes alone, which must show at least `warn`.
        config: the limits.
    """
    values = {_place(each): each.ratio.value for each in (*fresh.overall, *fresh.changes)}

    def check(each: Change) -> Change:
        limit = 1 - config.limits_of(each.columns).warn
        if each.kind is not Kind.REGRESSION or values.get(_place(each), math.inf) < limit:
            return each
        return replace(each, kind=Kind.UNCONFIRMED, note="not so in a fresh process")

    changes, overall = (tuple(map(check, part)) for part in (found.changes, found.overall))
    return replace(found, changes=changes, overall=overall)


def measure_again(run: Run, names: Sequence[str], out: Path, number: int) -> Run:
    """Measure some cases of a run in a fresh process, with another seed.

    Raises:
        CompareError: this machine or its kernels are not those of the run, or the benchmark
            cannot start.
    """
    device, folder = run.header["device"], out / f"again-{number}"
    if device.get("slug") != device_slug(device["type"]):
        raise CompareError(
            f"a regression must be confirmed on {device.get('slug')}, and this machine is "
            f"{device_slug(device['type'])}; compare there, or pass --no-confirm"
        )
    words = ["-k", " or ".join(names), "--no-report", f"--out={folder}"]
    words += [f"--mode={run.header['mode']}", f"--device={device['type']}"]
    words += [f"--seed={run.header['seed'] + number}"]
    command = [sys.executable, "-P", "-m", "dynadiag", "bench", *words]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return _same_kernels(run, _only_run(folder, done.returncode))


def _only_run(folder: Path, code: int) -> Run:
    found = sorted(folder.glob("*/run.json"))
    if code not in (0, 1) or not found:
        raise CompareError(
            f"the cases could not be measured again: dynadiag bench ended with {code}"
        )
    try:
        return read_run(found[-1].parent)
    except RecordError as error:
        raise CompareError(str(error)) from error


def _same_kernels(run: Run, again: Run) -> Run:
    was, now = (each.header.get("kernel_hash") for each in (run, again))
    if was != now:
        raise CompareError(
            f"the run was measured with kernels {was}, here are kernels {now}; measure it again, "
            "or pass --no-confirm"
        )
    return again


def _place(each: Change) -> tuple[str, str, str]:
    return each.case, each.arm, each.baseline
