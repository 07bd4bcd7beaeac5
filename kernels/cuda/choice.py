"""What `auto` takes on a GPU: a table of measurements, with a rule where nothing was measured.

A product is never timed while it is asked for, as that would wait for the device and spoil a graph
being captured: `refresh` measures beforehand. A table holds for one kind of card and one state of
the kernels' sources.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import registry
from ..cache import BuildError, cache_folder, write_text
from ..problem import Problem, call
from . import compiler
from .device import Device

SHIPPED = Path(__file__).parent / "tables"
NAMES = ("cuda", "dense")

# Rates of an H200 that the rule reckons with, none of them measured with these kernels. Cards
# differ less in their ratios than in the rates.
MEMORY = 4.8e12  # bytes/s, vendor
L2 = 5.5e12  # bytes/s, assumed
# Useful FLOP/s of free diagonals by bytes of an element: each multiply-add takes one operand, and a
# sixteenth of a value, from shared memory of 132 x 128 bytes a clock at 1.755 GHz = 29.65e12
# bytes/s. So 2 * 29.65e12 / (17/16 * 4) = 14e12, and twice as many of 2 bytes.
DIAGONAL_FLOPS = {4: 14.0e12, 2: 27.9e12}
# FLOP/s of a dense GEMM: 16 bits, TF32 (half of it), and float32 without matrix units.
DENSE_FLOPS = {"16 bits": 790e12, "tf32": 395e12, "strict": 52e12}
# Gathering the diagonals of a dense gradient: a sector of 32 bytes and an index of 8 for each.
GATHER_BYTES = 40


def best(problem: Problem) -> str:
    """Return `cuda` or `dense` for this product on the current device.

    The table answers for what was measured, at batches of the same power of two; the rule for the
    rest.
    """
    if problem.batch == 0:
        return "cuda"
    return _table(_slug(), compiler.source_hash()).get(key(problem)) or rule(problem)


def rule(problem: Problem) -> str:
    """Return the way that takes less time by the reckoning of `diagonal_seconds`.

    At large batch the diagonals win below a density of DIAGONAL_FLOPS / DENSE_FLOPS: from 73 %
    sparsity in strict float32, 96.5 % in TF32 and in 16 bits; at batch 1 to 4 the bytes decide, and
    they win at any.
    """
    return "cuda" if diagonal_seconds(problem) <= dense_seconds(problem) else "dense"


def diagonal_seconds(problem: Problem) -> float:
    """Return the seconds of the diagonal kernel: bytes from memory or operands, what takes longer.

    The values are read once, x and y cost both ways the same, and launches are left out.
    """
    m, n = problem.out_features, problem.in_features
    cells, size = problem.num_diagonals * min(m, n), problem.dtype.itemsize
    moved = (cells + problem.batch * (m + n)) * size
    return max(moved / MEMORY, 2 * problem.batch * cells / DIAGONAL_FLOPS[size])


def dense_seconds(problem: Problem) -> float:
    """Return the seconds of the dense GEMM, and of the gather after it for grad_values."""
    m, n, size = problem.out_features, problem.in_features, problem.dtype.itemsize
    moved = (m * n + problem.batch * (m + n)) * size
    product = max(moved / MEMORY, 2 * problem.batch * m * n / DENSE_FLOPS[_arithmetic(problem)])
    if problem.direction != "grad_values":
        return product
    return product + problem.num_diagonals * min(m, n) * (GATHER_BYTES + size) / L2


def _arithmetic(problem: Problem) -> str:
    if problem.dtype != torch.float32:
        return "16 bits"
    return "tf32" if tf32_allowed() else "strict"


def tf32_allowed() -> bool:
    """Return whether torch may compute float32 products of matrices in TF32."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # from torch 2.9; reading the older flag may then fail
        return bool(matmul.fp32_precision == "tf32")
    return bool(matmul.allow_tf32)


def key(problem: Problem) -> str:
    """Return what a table calls a product: its batch rounded up to a power of two."""
    batch = 1 << (problem.batch - 1).bit_length()
    numbers = "tf32" if _arithmetic(problem) == "tf32" else str(problem.dtype).split(".")[1]
    sizes = (problem.out_features, problem.in_features, problem.num_diagonals, batch)
    return " ".join(map(str, (problem.direction, numbers, *sizes)))


@dataclass(frozen=True)
class Timed:
    """One product measured both ways, in seconds."""

    problem: Problem
    seconds: dict[str, float]

    @property
    def name(self) -> str:
        """The faster way."""
        return min(NAMES, key=lambda name: self.seconds[name])


def refresh(
    problems: Iterable[Problem], time_call: Callable[[Callable[[], Tensor]], float]
) -> list[Timed]:
    """Time products both ways on the current device, and keep the answers in the cache.

    Args:
        problems: what to time.
        time_call: returns the seconds of one call, after a warm-up of its own.

    Raises:
        BuildError: there is no private cache, or a kernel cannot be compiled.
    """
    timed = [
        Timed(
            problem,
            {name: time_call(call(registry.get(name), problem, "cuda")) for name in NAMES},
        )
        for problem in problems
    ]
    write_table(_slug(), compiler.source_hash(), {key(one.problem): one.name for one in timed})
    return timed


def read_table(slug: str, sources: str) -> dict[str, str]:
    """Return the answers for a card and a state of the sources: shipped ones, then this machine's.

    Args:
        slug: of the card's name, such as `nvidia-h200`.
        sources: as `compiler.source_hash` gives it; answers for others are left out.
    """
    answers = _read(SHIPPED / f"{slug}.json", sources)
    try:
        return answers | _read(_path(slug), sources)
    except BuildError:
        return answers


def write_table(slug: str, sources: str, answers: dict[str, str]) -> Path:
    """Add answers to the table in the cache, replaced whole, and return its path.

    Answers for another state of the sources are dropped.

    Raises:
        BuildError: there is no private cache.
    """
    path = _path(slug)
    kept = _read(path, sources) | answers
    write_text(path, json.dumps({"sources": sources, "answers": kept}, indent=1, sort_keys=True))
    _table.cache_clear()
    return path


def _path(slug: str) -> Path:
    return cache_folder() / f"cuda-{slug}.json"


def _read(path: Path, sources: str) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
        answers = found["answers"] if found["sources"] == sources else {}
        return {problem: name for problem, name in answers.items() if name in NAMES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


_table = functools.cache(read_table)


def _slug() -> str:
    return Device.of(torch.cuda.current_device()).slug
