"""What is timed, in each direction, and what it should have computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .arms import stored_weight
from .cases import Case

Call = Callable[[], tuple[Tensor, ...]]

# Largest error of a right arm, relative to the norm of the fp64 result. Sums of 12,608 float32
# products stay below 2e-6; bfloat16 results have 8 bits, float16 ones 11, and TF32 rounds what it
# multiplies to 11.
TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2.5e-3, "tf32": 2.5e-3}


@dataclass(frozen=True)
class Inputs:
    """What all arms of a case share: x (batch, in_features) and g = dL/dy (batch, out_features)."""

    x: Tensor
    g: Tensor

    @classmethod
    def draw(cls, case: Case, seed: int, device: str = "cpu") -> Inputs:
        """Return normal numbers, the same on every device; zeros save power and hide mistakes."""
        generator, dtype = torch.Generator().manual_seed(seed), getattr(torch, case.dtype)
        x, g = (
            torch.randn(case.batch, size, generator=generator).to(device, dtype)
            for size in (case.in_features, case.out_features)
        )
        return cls(x, g)

    def double(self) -> Inputs:
        """Return the same numbers in fp64."""
        return Inputs(self.x.double(), self.g.double())


def grad_mode(direction: str) -> torch.set_grad_enabled:
    """Return the mode for all calls of a direction: a forward alone builds no graph.

    Entered once around a case, as a model in use does it, and not at every call.
    """
    return torch.set_grad_enabled(direction != "forward")


def make_call(direction: str, layer: Any, inputs: Inputs) -> Call:
    """Return the function to time.

    Args:
        direction: forward, to be called where `grad_mode` says; grad_x or grad_values, the
            backward alone through a graph that wants nothing else; step, a forward and the
            gradients of x, weight and bias.
        layer: what computes y; its `requires_grad` flags are set.
        inputs: x and g.
    """
    call = _call(direction, layer, layer, inputs)
    return _training(call, stored_weight(layer)) if direction == "step" else call


def reference(direction: str, layer: Any, inputs: Inputs) -> tuple[Tensor, ...]:
    """Return what the call of this layer should give, in fp64 through its dense weight."""

    def apply(x: Tensor) -> Tensor:
        return nn.functional.linear(x, layer.weight.double(), layer.bias.double())

    return _call(direction, apply, layer, inputs.double())()


def _call(direction: str, apply: Callable[[Tensor], Tensor], layer: Any, inputs: Inputs) -> Call:
    x, g, weight = inputs.x.detach(), inputs.g, stored_weight(layer)
    if direction == "forward":
        return lambda: (apply(x),)
    layer.requires_grad_(False)
    wanted: dict[str, list[Tensor]] = {
        "grad_x": [x],
        "grad_values": [weight],
        "step": [x, weight, layer.bias],
    }
    targets = [tensor.requires_grad_() for tensor in wanted[direction]]
    if direction == "step":
        return lambda: torch.autograd.grad(apply(x), targets, g)
    y = apply(x)
    return lambda: torch.autograd.grad(y, targets, g, retain_graph=True)


def _training(step: Call, weight: Tensor) -> Call:
    """Change the weight after each step, as an optimizer does.

    So nothing that a layer derives from its weight serves more than one step. The flip of one
    sign costs the same 2 µs in every arm.
    """
    one = weight.detach().view(-1)[:1]

    def call() -> tuple[Tensor, ...]:
        gradients = step()
        one.neg_()
        return gradients

    return call


def in_tf32(call: Call) -> Call:
    """Let the float32 products of a call round what they multiply to TF32."""

    def run() -> tuple[Tensor, ...]:
        torch.set_float32_matmul_precision("high")
        try:
            return call()
        finally:
            torch.set_float32_matmul_precision("highest")

    return run


def relative_error(results: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Return the largest ‖result - expected‖ / ‖expected‖; infinite where a shape is wrong."""
    errors = [0.0]
    for result, right in zip(results, expected, strict=True):
        if result.shape != right.shape or not result.isfinite().all():
            return float("inf")
        right = right.detach().double()
        errors.append(float((result.detach().double() - right).norm() / right.norm()))
    return max(errors)
