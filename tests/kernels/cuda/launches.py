"""Launching single variants of the kernels, cut into blocks as a test wants them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynadiag.kernels.cuda import cost
from dynadiag.kernels.cuda.launcher import Launcher
from dynadiag.kernels.cuda.variants import Variant
from tests.kernels.cuda.problems import Problem

REDUCE_BLOCK = 96


@dataclass(frozen=True)
class Cut:
    """Threads of a block, blocks that share the outputs, and slices of what is summed."""

    block: int = 64
    strips: int = 1
    slices: int = 1


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def fits(variant: Variant, columns: int, cut: Cut, limit: int) -> bool:
    """Return whether a tile of so many columns fits within the limit, in bytes."""
    if variant.kernel.startswith("naive"):
        return True
    return cost.shared_bytes(variant, columns, cut.block) <= limit


def multiply(
    launcher: Launcher,
    variant: Variant,
    cut: Cut,
    operand: Tensor,
    problem: Problem,
    bias: Tensor | None,
    code: int = 0,
) -> Tensor:
    """Return operand times the values' matrix, or its transpose: gather or scatter tells which."""
    length, period = sorted((problem.m, problem.n))
    size = period if variant.scatter else length
    sizes = (*operand.shape, size, len(problem.offsets))
    inputs = (operand, problem.values, problem.offsets)
    out = operand.new_empty(len(operand), size)
    if variant.kernel == "naive_multiply":
        grid = (len(operand), cut.strips, 1)
        launcher.launch(variant, grid, cut.block, 0, (*inputs, bias, out, *sizes, code))
        return out
    grid = (ceil_div(len(operand), variant.rows * variant.panels), cut.strips, cut.slices)
    shared = cost.shared_bytes(variant, operand.shape[1], cut.block)
    if cut.slices == 1:
        launcher.launch(variant, grid, cut.block, shared, (*inputs, bias, out, None, *sizes, code))
        return out
    partial = out.new_empty(cut.slices, *out.shape, dtype=torch.float32)
    launcher.launch(variant, grid, cut.block, shared, (*inputs, bias, None, partial, *sizes, code))
    reduce(launcher, partial, bias, out, code)
    return out


def grad_values(launcher: Launcher, variant: Variant, cut: Cut, problem: Problem) -> Tensor:
    """Return the gradient of the values."""
    shorter, longer = problem.flat
    k, length = problem.values.shape
    sizes = (len(longer), length, longer.shape[1], k)
    inputs = (shorter, longer, problem.offsets)
    out = torch.empty_like(problem.values)
    along = ceil_div(length, cut.block)
    if variant.kernel == "naive_grad_values":
        launcher.launch(variant, (along, cut.strips, 1), cut.block, 0, (*inputs, out, *sizes))
        return out
    partial = out.new_empty(cut.slices, k, length, dtype=torch.float32)
    shared = cost.shared_bytes(variant, longer.shape[1], cut.block)
    grid = (along, ceil_div(k, cost.CHUNK), cut.slices)
    launcher.launch(variant, grid, cut.block, shared, (*inputs, partial, *sizes))
    reduce(launcher, partial, None, out, 0)
    return out


def reduce(
    launcher: Launcher, partial: Tensor, bias: Tensor | None, out: Tensor, code: int
) -> None:
    """Add up the slices into `out`."""
    grid = (ceil_div(out.numel(), REDUCE_BLOCK), 1, 1)
    args = (partial, bias, out, out.numel(), len(partial), out.shape[1], code)
    launcher.launch(Variant("reduce", out.dtype), grid, REDUCE_BLOCK, 0, args)


def direction_of(variant: Variant, problem: Problem) -> str:
    """Return what this variant computes of a problem: scattering goes to the longer side."""
    if variant.kernel.endswith("grad_values"):
        return "grad_values"
    return "forward" if variant.scatter == (problem.m >= problem.n) else "grad_x"


def product(launcher: Launcher, variant: Variant, cut: Cut, problem: Problem) -> Tensor:
    """Return the product that the variant computes of a problem."""
    direction = direction_of(variant, problem)
    if direction == "grad_values":
        return grad_values(launcher, variant, cut, problem)
    if direction == "grad_x":
        return multiply(launcher, variant, cut, problem.grad, problem, None)
    return multiply(launcher, variant, cut, problem.x, problem, problem.bias)
