"""Plans as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plan import LayerPlan, Plan

_HEADS = ("layer", "shape", "kept", "weights", "asked", "achieved", "")


def table(plan: Plan) -> str:
    """Return a line a layer, the totals, and what the budget counts."""
    rows = [_HEADS, *(_cells(row) for row in plan.layers), _totals(plan)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    rules = (
        f"method {plan.method.name}, sparsity {plan.sparsity:g}, distribution {plan.distribution}"
    )
    return "\n".join([rules, *lines, "The budget counts converted layers only."])


def _cells(row: LayerPlan) -> Sequence[str]:
    shape = f"{row.out_features} x {row.in_features}"
    if row.skipped is not None:
        return row.name, shape, "all", str(row.weights), "", "", f"skipped: {row.skipped}"
    return (
        row.name,
        shape,
        f"{row.kept} of {row.units}",
        str(row.weights),
        f"{row.asked:.4f}",
        f"{row.achieved:.4f}",
        f"in each of {row.parts} parts" if row.parts > 1 else "",
    )


def _totals(plan: Plan) -> Sequence[str]:
    layers = f"{len(plan.converted)} of {len(plan.layers)} layers"
    achieved = f"{plan.achieved:.4f}"
    return "total", layers, "", str(plan.weights), f"{plan.sparsity:.4f}", achieved, ""
