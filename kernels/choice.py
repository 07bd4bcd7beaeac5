"""What `auto` takes: a table of measurements made on this machine, with a rule as fallback.

On a GPU the choice is that of `cuda/choice.py`. On a CPU two backends compete, `cpu` and `dense`,
and which wins hangs on the processor (its matrix units, its caches), the dtype, the shape, the
density and the batch. So a problem not met before is timed once, both ways in turns, and the answer
kept in the user's cache. The rule decides without timing where no machine we know of is in doubt.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from dataclasses import astuple, replace
from pathlib import Path

import torch

from . import registry
from .cache import BuildError, write_text
from .cpu import build
from .cuda import choice as cuda
from .problem import Problem, call

# Below this density float32 diagonals beat a dense GEMM on every CPU measured (by 1.9x at the
# least); above it, and in 16 bits, matrix units may win.
CERTAIN_DENSITY = 0.2
# Time grows in proportion beyond this many batch rows: no need to time more.
TIMED_BATCH = 256
# How much faster the dense path must be before it is worth holding W.
DENSE_GAIN = 1.02
REPEATS = 5


@functools.lru_cache(maxsize=4096)
def choose(
    name: str,
    direction: str,
    device: str,
    dtype: torch.dtype,
    out_features: int,
    in_features: int,
    num_diagonals: int,
    batch: int,
    threads: int,
) -> registry.Backend:
    """Return the backend of this name, or for `auto` the best for this product.

    What DYNADIAG_BACKEND names stands in for `auto`; it is read when a product is first met, as
    reading it takes 2 us, a tenth of a small product.

    Raises:
        ValueError: the name is unknown, or the backend does not take this device or dtype.
    """
    if name == registry.AUTO:
        name = registry.override()
    if name != registry.AUTO:
        backend = registry.get(name)
        reason = backend.why_not(device, dtype)
        if reason is not None:
            raise ValueError(f"{reason}; pass backend='auto', or see dynadiag.backends()")
        return backend
    problem = Problem(direction, dtype, out_features, in_features, num_diagonals, batch, threads)
    best = registry.get(_best(problem, device))
    reason = best.why_not(device, dtype)
    if reason is not None:
        raise ValueError(f"no backend fits: {reason}")
    return best


def _best(problem: Problem, device: str) -> str:
    if device == "cpu":
        return _best_on_cpu(problem)
    if device == "cuda" and registry.get("cuda").why_not(device, problem.dtype) is None:
        return cuda.best(problem)
    return "reference" if registry.get("dense").why_not(device, problem.dtype) else "dense"


def _best_on_cpu(problem: Problem) -> str:
    if registry.get("cpu").why_not("cpu", problem.dtype) is not None:
        return "reference"
    certain = problem.dtype == torch.float32 and problem.density <= CERTAIN_DENSITY
    return "cpu" if certain or problem.batch == 0 else _table().answer(problem)


class Table:
    """Answers by problem, kept as JSON in one file a machine and kernel."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._answers: dict[str, str] = {}
        if path is not None and path.exists():
            self._answers = _read(path)

    def answer(self, problem: Problem) -> str:
        """Return the faster of `cpu` and `dense`, measuring if the problem is new."""
        batch = min(problem.batch, TIMED_BATCH)
        key = " ".join(str(part) for part in (*astuple(problem)[:5], batch, problem.threads))
        if key not in self._answers:
            self._answers[key] = measure(problem)
            self._save()
        return self._answers[key]

    def _save(self) -> None:
        if self._path is None:
            return
        text = json.dumps(self._answers, indent=0, sort_keys=True)
        # The table is a convenience: without it the next process measures again.
        with contextlib.suppress(OSError):
            write_text(self._path, text)


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: name for key, name in found.items() if name in ("cpu", "dense")}


@functools.cache
def _table() -> Table:
    try:
        return Table(build.build().with_suffix(".json"))
    except (BuildError, OSError):
        return Table(None)


def measure(problem: Problem) -> str:
    """Return `dense` where it is faster than `cpu` by more than DENSE_GAIN, else `cpu`."""
    seconds = {name: float("inf") for name in ("cpu", "dense")}
    timed = replace(problem, batch=min(problem.batch, TIMED_BATCH))
    calls = {name: call(registry.get(name), timed, "cpu") for name in seconds}
    for product in calls.values():
        product()
    for _ in range(REPEATS):
        for name, product in calls.items():
            start = time.perf_counter()
            product()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return "dense" if seconds["dense"] * DENSE_GAIN < seconds["cpu"] else "cpu"
