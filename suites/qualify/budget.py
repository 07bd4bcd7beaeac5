"""How a qualification divides its time: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """What a stage may take of the time.

    Attributes:
        weight: its part of what is free, against those of the stages after it.
        least_s: seconds below which it is of no use.
        most_s: seconds beyond which it gains nothing.
        essential: it runs however little is left, and earlier stages leave it its least.
    """

    weight: float
    least_s: float
    most_s: float = math.inf
    essential: bool = False


def allot(stages: Sequence[Share], left_s: float) -> float | None:
    """Return the seconds that the first of the stages still to run may take, None for none.

    Time that a stage leaves over falls to those after it, as each is allotted when it begins.

    Args:
        stages: the stage that begins now, and those after it.
        left_s: seconds until the end of the whole.
    """
    first, *later = stages
    free = left_s - sum(stage.least_s for stage in later if stage.essential)
    if first.essential:
        free = max(free, min(first.least_s, left_s))
    elif free < first.least_s:
        return None
    if free <= 0:
        return None
    weights = first.weight + sum(stage.weight for stage in later)
    part = free * first.weight / weights if weights else free
    return min(first.most_s, free, max(first.least_s, part))
