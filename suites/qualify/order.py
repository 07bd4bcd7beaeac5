"""Which cases first: a qualification may end after any of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..cases import Case

# The values of each axis, the most telling first. What the paper claims, and what we are held to,
# is the whole ViT-B/16 at 90 %: so the shapes come together, and every other axis steps in turn.
RANKS: dict[str, Sequence[object]] = {
    "sparsity": (0.9, 0.95, 0.99, 0.8),
    "dtype": ("bfloat16", "float32", "float16"),
    "direction": ("forward", "step", "grad_x", "grad_values"),
    "regime": ("cold", "eager", "warm"),
    "batch": (12608, 197, 1),
}
SHAPES = ("768x3072", "768x768", "3072x768", "768x2304")


def by_importance(cases: Iterable[Case]) -> list[Case]:
    """Return the cases, those first that are the fewest steps from the headline."""
    return sorted(cases, key=_key)


def _key(case: Case) -> tuple[int, tuple[int, ...], int]:
    steps = tuple(_rank(getattr(case, axis), values) for axis, values in RANKS.items())
    return sum(steps), steps, _rank(case.shape, SHAPES)


def _rank(value: object, values: Sequence[object]) -> int:
    return values.index(value) if value in values else len(values)
