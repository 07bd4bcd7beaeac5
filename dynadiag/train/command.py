"""`dynadiag train`: the runs its words stand for, and the way they are executed."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from dynadiag.train.folder import Result, TrainError
from dynadiag.train.loop import execute
from dynadiag.train.place import Place
from dynadiag.train.pool import run_all
from dynadiag.train.preset import preset
from dynadiag.train.run import Run, create
from dynadiag.train.slurm import submit

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
# Fields of a recipe with a word of their own.
FLAGS = ("steps", "batch", "lr", "weight_decay")


def train(arguments: argparse.Namespace) -> int:
    """Execute, print or submit what the command line asks for, and return how it ended."""
    try:
        runs = list(runs_of(arguments))
        place = Place(arguments.out, arguments.data, arguments.device, arguments.loaders)
        return _carry_out(arguments, runs, place)
    except TrainError as error:
        print(f"dynadiag: {error}", file=sys.stderr)
        return FAILED
    except (ValueError, OSError, ImportError) as error:
        print(f"dynadiag: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED


def runs_of(arguments: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of the methods, sparsities and seeds asked for, each once.

    Raises:
        ValueError: if a name or a value is impossible.
    """
    given = {name: getattr(arguments, name) for name in FLAGS}
    recipe = {name: value for name, value in given.items() if value is not None}
    recipe |= settings(arguments.recipe)
    every = itertools.product(arguments.method, arguments.sparsity, arguments.seed)
    runs = (
        create(
            arguments.preset,
            method,
            sparsity=sparsity,
            seed=seed,
            fold=arguments.fold,
            distribution=arguments.distribution or "compute",
            exclude=None if arguments.exclude is None else tuple(arguments.exclude),
            options=settings(arguments.option),
            changes=settings(arguments.model),
            trace=arguments.trace,
            **recipe,
        )
        for method, sparsity, seed in every
    )
    yield from dict.fromkeys(runs)


def settings(words: Iterable[str]) -> dict[str, Any]:
    """Return what words such as ``name=0.5`` set; what is no JSON is text.

    Raises:
        ValueError: if a word has no ``=``.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} sets nothing; write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def command_of(run: Run, place: Place) -> list[str]:
    """Return the words that execute a run by itself, on any machine."""
    words = ["python", "-m", "dynadiag", "train", run.preset, f"--method={run.method}"]
    words += [f"--sparsity={run.sparsity!r}", f"--seed={run.seed}", f"--out={place.root}"]
    if run.distribution:
        words.append(f"--distribution={run.distribution}")
    if run.fold:
        words.append(f"--fold={run.fold}")
    base = preset(run.preset)
    groups = {
        "recipe": _differences(vars(run.recipe), vars(base.recipe)),
        "model": _differences(dict(run.changes), base.changes_for(run.method)),
        "option": run.config()["options"],
    }
    if run.method != "dense" and run.exclude != base.exclude:
        words += ["--exclude", *run.exclude]
    for name, values in groups.items():
        if values:
            words += [f"--{name}", *(f"{key}={json.dumps(value)}" for key, value in values.items())]
    optional = {"trace": run.trace, "data": place.data, "device": place.device}
    words += [f"--{name}={value}" for name, value in optional.items() if value is not None]
    return words


def _differences(mine: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mine.items() if name not in base or base[name] != value}


def _carry_out(arguments: argparse.Namespace, runs: list[Run], place: Place) -> int:
    if arguments.print:
        for run in runs:
            print(shlex.join(command_of(run, place)))
    elif arguments.slurm is not None:
        for job in submit(runs, place, **settings(arguments.slurm)):
            print(job.job_id)
    elif len(runs) == 1:
        _show(execute(runs[0], place))
    elif int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            f"{len(runs)} runs under torchrun, whose processes share one; give one run, or leave "
            "torchrun out: runs then go side by side, one a GPU or core"
        )
    else:
        for result in run_all(runs, place, workers=arguments.workers):
            _show(result)
    return OK


def _show(result: Result) -> None:
    print(
        f"{result.folder}: test loss {result.test['loss']:.4g}, "
        f"accuracy {result.test['accuracy']:.4f}, sparsity {result.sparsity:.4f}, "
        f"{result.seconds:.1f} s in {result.steps} steps"
    )
