"""How a budget of weights is shared among the layers of a model.

`uniform` asks the same sparsity of every layer and rounds each to its nearest unit. `erk` and
`compute` divide one global budget, (1 - sparsity) of all weights of the layers given, in proportion
to a share of each layer, every layer keeping one unit at least and all its weights at most; what
they hand out is the budget up to rounding to one unit, or more where one unit each exceeds it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """What a distribution knows of one layer.

    Attributes:
        out_features: M, of one part.
        in_features: N.
        unit: weights of a part that come and go together, such as those of one diagonal.
        parts: layers of these sizes that always keep the same number of units.
        positions: how many input vectors the layer multiplies.
    """

    out_features: int
    in_features: int
    unit: int
    parts: int = 1
    positions: int = 1

    @property
    def units(self) -> int:
        """Units there are to keep, in each part."""
        return self.out_features * self.in_features // self.unit

    @property
    def step(self) -> int:
        """Weights that one more unit in every part adds."""
        return self.unit * self.parts

    @property
    def weights(self) -> int:
        """Weights of all parts when dense."""
        return self.out_features * self.in_features * self.parts


@dataclass(frozen=True)
class Allotment:
    """What one layer keeps.

    Attributes:
        kept: units, in each part.
        asked: the sparsity the distribution wanted for the layer before rounding.
    """

    kept: int
    asked: float


def distribute(name: str, layers: Sequence[Sizes], sparsity: float) -> list[Allotment]:
    """Share the budget among layers.

    Args:
        name: of the distribution; `distributions()` lists them.
        layers: those the budget counts.
        sparsity: the share of zeros in [0, 1).

    Raises:
        ValueError: unknown name, or one unit in each layer is more than twice the budget.
    """
    check_distribution(name)
    if name == "uniform" or not layers:
        return [Allotment(max(1, round((1 - sparsity) * each.units)), sparsity) for each in layers]
    budget = (1 - sparsity) * sum(each.weights for each in layers)
    _check_budget(layers, sparsity, budget)
    wanted = _proportional([_SHARES[name](each) for each in layers], layers, budget)
    kept = _rounded(wanted, layers, budget)
    return [
        Allotment(units, 1 - weights / each.weights)
        for units, weights, each in zip(kept, wanted, layers, strict=True)
    ]


def distributions() -> tuple[str, ...]:
    """Return the names there are."""
    return ("uniform", *_SHARES)


def check_distribution(name: str) -> None:
    """Raise ValueError for an unknown name, listing the known ones."""
    if name not in distributions():
        raise ValueError(f"unknown distribution {name!r}; known: {', '.join(distributions())}")


def _erk(layer: Sizes) -> float:
    """Erdős-Rényi kernel: density in proportion to (M + N) / (M N) (RigL, arXiv 1911.11134)."""
    return layer.parts * (layer.out_features + layer.in_features)


def _compute(layer: Sizes) -> float:
    """Multiplications of the dense layer (Pixelated Butterfly, arXiv 2112.00029)."""
    return layer.weights * layer.positions


_SHARES: dict[str, Callable[[Sizes], float]] = {"erk": _erk, "compute": _compute}


def _check_budget(layers: Sequence[Sizes], sparsity: float, budget: float) -> None:
    """Raise ValueError where one unit each is more than what rounds to it, as in a single layer."""
    least = sum(each.step for each in layers)
    if budget < least / 2:
        highest = math.floor(1e4 * (1 - least / 2 / sum(each.weights for each in layers))) / 1e4
        raise ValueError(
            f"sparsity {sparsity} leaves {budget:.3g} weights for {len(layers)} layers, but the "
            f"smallest unit of each takes {least} together, more than twice that; ask for at most "
            f"{highest:g}, or exclude small layers"
        )


def _proportional(shares: Sequence[float], layers: Sequence[Sizes], budget: float) -> list[float]:
    """The weights in proportion to shares, within the bounds of each layer, that sum to budget.

    The sum grows piecewise linearly with the factor of proportion and bends where a layer meets a
    bound; the factor lies on the line between two bends. Without the lower bounds this is where
    RigL's rule ends: make layers denser than 1 dense and share the rest again.
    """
    low = [float(each.step) for each in layers]
    high = [float(each.units * each.step) for each in layers]

    def at(factor: float) -> list[float]:
        bounds = zip(shares, low, high, strict=True)
        return [min(max(factor * share, least), most) for share, least, most in bounds]

    def total(factor: float) -> float:
        return sum(at(factor))

    bends = sorted(
        bound / share for bounds in (low, high) for bound, share in zip(bounds, shares, strict=True)
    )
    right = bisect_left(bends, budget, hi=len(bends) - 1, key=total)
    before, after = bends[max(right - 1, 0)], bends[right]
    if total(after) <= budget or total(before) >= budget:
        return at(after if total(after) <= budget else before)
    along = (budget - total(before)) / (total(after) - total(before))
    return at(before + along * (after - before))


def _rounded(wanted: Sequence[float], layers: Sequence[Sizes], budget: float) -> list[int]:
    """Whole units by the largest remainder, a layer rounded up if that nears the budget.

    Units that fit into what is left then, as small ones do beside large ones, are handed out too.
    """
    exact = [weights / each.step for weights, each in zip(wanted, layers, strict=True)]
    kept = [max(1, int(units)) for units in exact]
    left = budget - sum(units * each.step for units, each in zip(kept, layers, strict=True))

    def missing(index: int) -> float:
        return exact[index] - kept[index]

    def fits(index: int) -> bool:
        step = layers[index].step
        # Weights are whole: half of one is what 1 - sparsity may have been rounded by.
        needed = step / 2 if missing(index) > 0 else step - 0.5
        return left > needed and kept[index] < layers[index].units

    while fitting := list(filter(fits, range(len(layers)))):
        index = max(fitting, key=missing)
        kept[index] += 1
        left -= layers[index].step
    return kept
