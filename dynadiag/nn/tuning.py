"""Several ways to compute one thing: the fastest here is measured once and remembered.

Which formulation of a sparse product wins depends on the processor, the batch and the sparsity,
so a fixed rule would turn a rival into a straw man on some machine. Measured on two AMD Zen 4
cores at 768x768, 90 %, batch 197: embedding_bag 1.2 ms, torch CSR (MKL) 2.0 ms; at batch 1 the
order is reversed, 0.33 ms against 0.04 ms. On CUDA the algorithms of a library, its layouts and
its launch parameters are ways too, named `library(parameters)`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dynadiag.nn import tuning_cuda

Way = Callable[[], Tensor]
Ways = dict[str, Way]

_LEAST_ROUNDS = 3
_LEAST_SECONDS = 0.02


@dataclass(frozen=True)
class Choice:
    """What a search found.

    Attributes:
        name: of the fastest way.
        left_out: why other ways were out of the question, by their names.
    """

    name: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(name)
        without = "; ".join(f"{' '.join(names)}: {reason}" for reason, names in reasons.items())
        return f"{self.name} [without {without}]" if without else self.name


_fastest: dict[Hashable, Choice] = {}


class Tuner:
    """Runs the fastest of several equivalent calls and remembers what it chose last.

    Choices are shared by all layers of one family in a process; a new size is measured once.
    """

    def __init__(self, *family: Hashable) -> None:
        self._family = family
        self._chosen: dict[str, Choice] = {}

    def __str__(self) -> str:
        chosen = ", ".join(f"{operation} {choice}" for operation, choice in self._chosen.items())
        return chosen or "measured at first use"

    def run(self, operation: str, values: Tensor, batch: int, ways: Mapping[str, Way]) -> Tensor:
        """Return the result of the fastest way.

        Args:
            operation: what is computed, such as `forward`.
            values: the stored weights; their shape, dtype and device bear on the choice.
            batch: rows of x; on the CPU batches of one power of two share a choice.
            ways: calls without side effects, by name.

        Raises:
            RuntimeError: on CUDA, if no way works, or none is chosen yet and a graph is captured.
        """
        place = (values.shape, values.dtype, values.device, torch.get_num_threads())
        size = batch if values.device.type == "cuda" else batch.bit_length()
        key = (self._family, operation, size, *place, *ways)
        if key not in _fastest:
            _fastest[key] = search(ways, values.device)
        choice = self._chosen[operation] = _fastest[key]
        return ways[choice.name]()


def search(ways: Mapping[str, Way], device: torch.device) -> Choice:
    """Return the fastest way on a device; on CUDA, of those that work and agree."""
    if len(ways) == 1:
        return Choice(next(iter(ways)))
    if device.type != "cuda":
        return Choice(measure(ways, _seconds))
    working, left_out = tuning_cuda.sift(ways)
    return Choice(measure(working, tuning_cuda.ColdTimer(device)), left_out)


def measure(ways: Mapping[str, Way], seconds: Callable[[Way], float]) -> str:
    """Return the name of the way with the smallest least time, rounds interleaved."""
    least = dict.fromkeys(ways, math.inf)
    rounds, start = 0, time.perf_counter()
    while rounds < _LEAST_ROUNDS or time.perf_counter() - start < _LEAST_SECONDS:
        for name, call in ways.items():
            least[name] = min(least[name], seconds(call))
        rounds += 1
    return min(least, key=lambda name: least[name])


def of_formulation(ways: Ways, formulation: str | None) -> Ways:
    """Return the ways of one formulation, whatever their parameters; all of them for None."""
    return {
        name: way for name, way in ways.items() if formulation in (None, name.partition("(")[0])
    }


def plus_bias(ways: Ways, bias: Tensor | None) -> Ways:
    """Return the ways followed by adding a bias (out,) to their (out, batch) in place."""
    if bias is None:
        return ways
    return {name: partial(_added, way, bias.unsqueeze(1)) for name, way in ways.items()}


def _added(way: Way, column: Tensor) -> Tensor:
    return way().add_(column)


def _seconds(call: Way) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
