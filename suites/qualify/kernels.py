"""Every kernel of the diagonal operators against fp64, on the device itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dynadiag import kernels
from dynadiag.bench.records import Row, blank_row, case_id
from dynadiag.kernels.cuda import Cuda, compiler
from dynadiag.kernels.cuda.device import Device
from dynadiag.kernels.cuda.launcher import CupyLauncher, Launcher
from dynadiag.kernels.cuda.variants import ALL, Variant

from ..calls import TOLERANCES, relative_error

DTYPES = ("float32", "bfloat16", "float16")
# (out_features, in_features): odd ones, both ways round, and one of the layers that are timed.
SHAPES = ((497, 698), (698, 497), (1, 1), (3072, 768))
BATCHES = (1, 2, 3, 4, 7, 17, 56, 197, 1000)
DIAGONALS = (1, 7, 100)
ACTIVATIONS = (None, "relu", "gelu", "silu")
TINY: dict[str, Any] = {"shared_per_block": 2 * 1024, "shared_per_sm": 3 * 1024}
# Cards as plans may meet them: what suits a smaller one is right on a larger one too. Between them
# they call for every kernel; the last has room for no tile, which leaves the naive ones.
CARDS: tuple[dict[str, Any], ...] = ({}, {"sms": 1}, {"sms": 4}, TINY)


@dataclass(frozen=True)
class Problem:
    """One product to check."""

    direction: str
    dtype: str
    out_features: int
    in_features: int
    diagonals: int
    batch: int
    activation: str | None = None

    @property
    def columns(self) -> Row:
        """The columns of its rows."""
        candidates = max(self.out_features, self.in_features)
        about: Row = {"suite": "kernels", "direction": self.direction, "dtype": self.dtype}
        about |= {"out_features": self.out_features, "in_features": self.in_features}
        about |= {"batch": self.batch, "sparsity": 1 - self.diagonals / candidates}
        about["case_id"] = case_id(**about, activation=self.activation)
        shape = f"{self.in_features}x{self.out_features}"
        return about | {"op": self.activation or "linear", "shape": shape, "format": "diagonal"}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its operands."""
        m, n = self.out_features, self.in_features
        values = (self.diagonals, min(m, n))
        return {"x": (self.batch, n), "grad": (self.batch, m), "values": values, "bias": (m,)}


@dataclass(frozen=True)
class Subject:
    """A backend under test.

    Attributes:
        backend: what computes.
        used: the kernels it launched so far; stays empty where there are none to tell apart.
    """

    backend: kernels.Backend
    used: set[Variant]


class Noting:
    """Launches, and notes what was launched."""

    def __init__(self, launcher: Launcher, used: set[Variant]) -> None:
        self._launcher, self._used = launcher, used

    def launch(self, variant: Variant, *rest: Any) -> None:
        """Queue one kernel."""
        self._used.add(variant)
        self._launcher.launch(variant, *rest)


def subjects(launcher: Launcher | None = None) -> list[Subject]:
    """Return the CUDA backend as it plans for each of the `CARDS`."""
    launcher, found = launcher or CupyLauncher(), []
    for changes in CARDS:
        used: set[Variant] = set()
        found.append(Subject(Cuda(Noting(launcher, used), _pretending(changes)), used))
    return found


def _pretending(changes: dict[str, Any]) -> Callable[[Tensor], Device]:
    def device_of(tensor: Tensor) -> Device:
        return replace(Device.of(tensor.device.index), **changes)

    return device_of


def unused(tested: Sequence[Subject]) -> list[str]:
    """Return the kernels of the operators that no check has launched, as C++ names them."""
    used = {variant for subject in tested for variant in subject.used}
    return [variant.expression for variant in ALL if variant not in used]


def compile_all() -> int:
    """Compile the kernels for this card and return how many there are.

    One after the other: NVRTC and the lock of the cache let no two be compiled at a time.
    """
    arch = Device.of(torch.cuda.current_device()).arch
    return len([compiler.load(variant, arch) for variant in ALL])


def problems() -> Iterator[Problem]:
    """Yield the products to check, all shapes and dtypes of a batch before the next batch."""
    axes = (BATCHES, DIAGONALS, SHAPES, DTYPES, kernels.DIRECTIONS)
    for batch, k, (m, n), dtype, direction in itertools.product(*axes):
        if k <= max(m, n):
            yield Problem(direction, dtype, m, n, k, batch)
    for activation, dtype in itertools.product(ACTIVATIONS[1:], DTYPES):
        yield Problem("forward", dtype, 497, 698, 7, 17, activation)


def check(tested: Sequence[Subject], problem: Problem, device: str) -> Row:
    """Compute one product by each subject and compare with fp64; the row has the worst of them."""
    name = tested[0].backend.name
    columns = problem.columns | {"arm": name, "backend": name, "n": len(tested)}
    columns |= {"metric": "error", "unit": "1", "stat": "max_relative"}
    try:
        error = _worst([subject.backend for subject in tested], problem, draw(problem, device))
    except Exception as failure:  # one kernel that cannot run must not hide the others
        message = f"{type(failure).__name__}: {failure}".partition("\n")[0]
        return blank_row(**columns, status="failed", reason=message)
    allowed = TOLERANCES[problem.dtype]
    if error <= allowed:
        return blank_row(**columns, value=error)
    reason = f"error {error:.2g} against fp64; {problem.dtype} allows {allowed:g}"
    return blank_row(**columns, value=error, status="wrong", reason=reason)


def _worst(
    backends: Sequence[kernels.Backend], problem: Problem, operands: dict[str, Tensor]
) -> float:
    exact = {name: tensor.double() for name, tensor in operands.items()}
    expected = compute(kernels.get("reference"), problem, exact)
    results = (compute(backend, problem, operands) for backend in backends)
    return max(relative_error((result,), (expected,)) for result in results)


def draw(problem: Problem, device: str) -> dict[str, Tensor]:
    """Return random operands by name."""
    generator = torch.Generator().manual_seed(problem.batch)
    return {
        name: torch.randn(shape, generator=generator).to(device, getattr(torch, problem.dtype))
        for name, shape in problem.shapes.items()
    }


def compute(backend: kernels.Backend, problem: Problem, operands: dict[str, Tensor]) -> Tensor:
    """Return the product of the operands, at random offsets."""
    x, grad, values, bias = (operands[name] for name in ("x", "grad", "values", "bias"))
    m, n = problem.out_features, problem.in_features
    generator = torch.Generator().manual_seed(problem.diagonals)
    offsets = torch.randperm(max(m, n), generator=generator)[: problem.diagonals].sort().values
    offsets = offsets.to(x.device, torch.int32)
    if problem.direction == "forward":
        return backend.forward(x, values, offsets, bias, m, problem.activation)
    if problem.direction == "grad_x":
        return backend.grad_x(grad, values, offsets, n)
    return backend.grad_values(grad, x, offsets)
