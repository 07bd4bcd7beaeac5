"""What `auto` takes: a table of measurements made on this machine, with a rule as fallback.

On a CPU two backends compete, `cpu` and `dense`, and which wins hangs on the processor (its matrix
units, its caches), the dtype, the shape, the density and the batch. So a problem not met before is
timed once, both ways in turns, and the answer kept in the user's cache. The rule decides without
timing where no machine we know of is in doubt.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import registry
from .cpu import build

# Below this density float32 diagonals beat a dense GEMM on every CPU measured (by 1.9x at the
# least); above it, and in 16 bits, matrix units may win.
CERTAIN_DENSITY = 0.2
# Time grows in proportion beyond this many batch rows: no need to time more.
TIMED_BATCH = 256
# How much faster the dense path must be before it is worth holding W.
DENSE_GAIN = 1.02
REPEATS = 5


@dataclass(frozen=True)
class Problem:
    """One product, as far as the choice depends on it."""

    direction: str  # one of registry.DIRECTIONS
    dtype: torch.dtype
    out_features: int
    in_features: int
    num_diagonals: int
    batch: int
    threads: int

    @property
    def density(self) -> float:
        """K / P."""
        return self.num_diagonals / max(self.out_features, self.in_features)


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
    best = registry.get(
        _best_on_cpu(problem) if device == "cpu" else _best_elsewhere(device, dtype)
    )
    reason = best.why_not(device, dtype)
    if reason is not None:
        raise ValueError(f"no backend fits: {reason}")
    return best


def _best_on_cpu(problem: Problem) -> str:
    if registry.get("cpu").why_not("cpu", problem.dtype) is not None:
        return "reference"
    certain = problem.dtype == torch.float32 and problem.density <= CERTAIN_DENSITY
    return "cpu" if certain or problem.batch == 0 else _table().answer(problem)


def _best_elsewhere(device: str, dtype: torch.dtype) -> str:
    return "reference" if registry.get("dense").why_not(device, dtype) else "dense"


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
        partial = self._path.with_suffix(f".{os.getpid()}")
        try:
            partial.write_text(json.dumps(self._answers, indent=0, sort_keys=True))
            partial.replace(self._path)
        except OSError:  # the table is a convenience: without it the next process measures again
            partial.unlink(missing_ok=True)


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
    except (build.BuildError, OSError):
        return Table(None)


def measure(problem: Problem) -> str:
    """Return `dense` where it is faster than `cpu` by more than DENSE_GAIN, else `cpu`."""
    seconds = {name: float("inf") for name in ("cpu", "dense")}
    calls = {name: _call(registry.get(name), problem) for name in seconds}
    for call in calls.values():
        call()
    for _ in range(REPEATS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return "dense" if seconds["dense"] * DENSE_GAIN < seconds["cpu"] else "cpu"


def _call(backend: registry.Backend, problem: Problem) -> Callable[[], Tensor]:
    """Return the product on random operands, drawn without touching the global generator."""
    generator = torch.Generator().manual_seed(0)
    m, n, k = problem.out_features, problem.in_features, problem.num_diagonals
    batch = min(problem.batch, TIMED_BATCH)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cpu").to(problem.dtype)

    x, grad, values = draw(batch, n), draw(batch, m), draw(k, min(m, n))
    offsets = (
        torch.randperm(max(m, n), generator=generator, device="cpu")[:k]
        .sort()
        .values.to(torch.int32)
    )
    if problem.direction == "forward":
        return lambda: backend.forward(x, values, offsets, None, m)
    if problem.direction == "grad_x":
        return lambda: backend.grad_x(grad, values, offsets, n)
    return lambda: backend.grad_values(grad, x, offsets)
