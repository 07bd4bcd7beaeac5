"""Putting the layers of a plan into a model."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from ..nn.dynamic import DynamicLinear
from .candidates import as_linear, candidates
from .method import Method
from .plan import AS_DENSE, LayerPlan, Plan, check_dense
from .plan import plan as make_plan
from .split import SplitLinear
from .surgery import like, replace_

Model = TypeVar("Model", bound=nn.Module)


def convert_(
    model: Model, plan: Plan | None = None, *, seed: int | None = None, **planning: Any
) -> Model:
    """Replace the layers that a plan names by sparse ones, freshly initialised, in place.

    Convert before the optimizer is made: its parameters are new. Device, dtype, training flag and
    frozen parameters stay as they were; hooks of a replaced layer stay with the layer.

    Args:
        model: the dense model that was planned for.
        plan: what to do; or give what `dynadiag.plan` takes instead.
        seed: draws the topology, the same one wherever it is the same; None for the seed of torch's
            global generator, which draws the weights in any case.
        planning: arguments of `dynadiag.plan`.

    Returns:
        The model itself.

    Raises:
        ValueError: the plan is of another model, the model is sparse already, or what
            `dynadiag.plan` raises; the model is then as it was.
        TypeError: both a plan and arguments for one are given, or neither.
    """
    if plan is not None and planning:
        raise TypeError(f"a plan is given, and {', '.join(planning)} beside it; pass one of them")
    if plan is None:
        plan = make_plan(model, **planning)
    check_fits(model, plan)
    generator = torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)
    swaps = {}
    for row in plan.converted:
        old = model.get_submodule(row.name)
        swaps[old] = _built(old, row, plan.method, generator)
    replace_(model, swaps)
    if plan.method.layer == "dense":
        _mark(model, plan)
    return model


def check_fits(model: nn.Module, plan: Plan) -> None:
    """Raise ValueError unless a model is dense and has the linear layers a plan names."""
    check_dense(model)
    found = {each.name: each for each in candidates(model)}
    there = {each.name: f"{each.out_features} x {each.in_features}" for each in found.values()}
    planned = {row.name: f"{row.out_features} x {row.in_features}" for row in plan.layers}
    for name in planned | there:
        sides = planned.get(name, "absent"), there.get(name, "absent")
        if sides[0] != sides[1]:
            raise ValueError(
                f"the plan is of another model: layer {name} is {sides[0]} in the plan, {sides[1]} "
                "in the model; plan this one"
            )
    for row in plan.converted:
        refusal = found[row.name].refusal
        if refusal is not None:
            raise ValueError(f"layer {row.name} can no longer be converted: {refusal}; plan again")
        if next(model.get_submodule(row.name).parameters()).is_meta:
            raise ValueError(
                f"layer {row.name} is on the meta device, where no topology can be drawn; give the "
                "model memory first: model.to_empty(device='cpu')"
            )


def _mark(model: nn.Module, plan: Plan) -> None:
    """Say on the dense layers by which method they are trained, as dynamic ones say it."""
    for row in plan.layers:
        if row.skipped == AS_DENSE:
            model.get_submodule(row.name).method = plan.method  # type: ignore[assignment]


def _built(old: nn.Module, row: LayerPlan, method: Method, generator: torch.Generator) -> nn.Module:
    size = row.out_features // row.parts
    parts = []
    for start in range(0, row.out_features, size):
        linear = as_linear(old, start, start + size)
        part = method.build(linear, row.kept, generator)
        if isinstance(part, DynamicLinear):
            part.method = method
        parts.append(like(part, linear))
    return parts[0] if len(parts) == 1 else SplitLinear(parts)
