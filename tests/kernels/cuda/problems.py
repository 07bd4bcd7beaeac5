"""Products to compute, what they come to in float64, and how far rounding may take a kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dynadiag import kernels
from tests.kernels.offsets import some_offsets

REFERENCE = kernels.get("reference")
# Errors of a sum grow like the square root of its terms, in units of half a place of float32, times
# a constant that grows with how sure one wants to be (Higham and Mary, 2019).
SURE = 2.0


@dataclass(frozen=True)
class Problem:
    """Operands of the three products with an m x n matrix."""

    m: int
    n: int
    x: Tensor
    grad: Tensor
    values: Tensor
    offsets: Tensor
    bias: Tensor

    @property
    def flat(self) -> tuple[Tensor, Tensor]:
        """The shorter and the longer of x and grad, as the gradient of the values takes them."""
        return (self.x, self.grad) if self.m >= self.n else (self.grad, self.x)

    def map(self, change: Callable[[Tensor], Tensor]) -> Problem:
        """Return the problem with all operands but the offsets changed."""
        return replace(
            self,
            x=change(self.x),
            grad=change(self.grad),
            values=change(self.values),
            bias=change(self.bias),
        )

    def to(self, device: str) -> Problem:
        """Return the problem on another device."""
        moved = self.map(lambda operand: operand.to(device))
        return replace(moved, offsets=self.offsets.to(device))

    def copy(self) -> Problem:
        """Return the problem with operands of its own."""
        return self.map(Tensor.clone)

    def products(self, backend: kernels.Backend = REFERENCE) -> dict[str, Tensor]:
        """Return y, dx and dV by direction."""
        return {
            "forward": backend.forward(self.x, self.values, self.offsets, self.bias, self.m),
            "grad_x": backend.grad_x(self.grad, self.values, self.offsets, self.n),
            "grad_values": backend.grad_values(self.grad, self.x, self.offsets),
        }

    @functools.cached_property
    def exact(self) -> dict[str, Tensor]:
        """The products in float64."""
        return self.map(Tensor.double).products()

    @functools.cached_property
    def magnitudes(self) -> dict[str, Tensor]:
        """The products of the absolute values: what rounding errors are proportional to."""
        return self.map(lambda operand: operand.double().abs()).products()

    def terms(self, direction: str) -> int:
        """Return how many roundings an element of the product has gone through, with the bias."""
        return (len(self.x) if direction == "grad_values" else len(self.offsets)) + 2


@functools.lru_cache(maxsize=256)
def draw(m: int, n: int, k: int, batch: int, dtype: torch.dtype) -> Problem:
    """Return a random problem, always the same one."""
    torch.manual_seed(m * 1009 + n * 31 + k + batch)
    return Problem(
        m,
        n,
        torch.randn(batch, n).to(dtype),
        torch.randn(batch, m).to(dtype),
        torch.randn(k, min(m, n)).to(dtype),
        some_offsets(max(m, n), k),
        torch.randn(m).to(dtype),
    )


def with_non_finite(problem: Problem) -> Problem:
    """Return the problem with NaN and both infinities here and there in x and in the gradient."""
    changed = problem.copy()
    for operand in (changed.x, changed.grad):
        columns = operand.shape[1]
        operand[0, columns // 2], operand[-1, 0] = float("nan"), float("inf")
        operand[1, columns - 1] = float("-inf")
    return changed


def assert_rounded(result: Tensor, exact: Tensor, magnitude: Tensor, terms: int) -> None:
    """Sums in float32 of terms whose magnitudes add up to `magnitude`, then one rounding."""
    assert result.shape == exact.shape
    info = torch.finfo(result.dtype)
    error = SURE * terms**0.5 * 2.0**-24 * magnitude
    rounding = info.eps / 2 * (exact.abs() + error) + info.tiny * info.eps
    excess = ((result.to(exact.device).double() - exact).abs() - error - rounding).max()
    assert excess <= 0, f"off by {excess:.3g} more than rounding explains"


def assert_product(result: Tensor, problem: Problem, direction: str) -> None:
    """The product of this direction, up to rounding."""
    assert result.dtype == problem.x.dtype
    exact, magnitude = problem.exact[direction], problem.magnitudes[direction]
    assert_rounded(result, exact, magnitude, problem.terms(direction))
