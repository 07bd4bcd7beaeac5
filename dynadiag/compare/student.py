"""Student's t distribution of whole degrees of freedom, for intervals over few processes."""

from __future__ import annotations

import functools
import math


def cdf(t: float, freedom: int) -> float:
    """Probability of a value up to `t`: Abramowitz & Stegun 26.7.3 (odd) and 26.7.4 (even).

    Args:
        t: any number, infinity too.
        freedom: degrees of freedom, at least 1.
    """
    theta = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    if odd:
        return 0.5 + (theta + sine * total) / math.pi
    return 0.5 + sine * total / 2


@functools.cache
def quantile(probability: float, freedom: int) -> float:
    """The value that a variable stays below with `probability`, by bisection.

    Args:
        probability: above 0 and below 1.
        freedom: degrees of freedom, at least 1.
    """
    low, high = -math.pi / 2, math.pi / 2  # of the angle, so that tails of any length fit
    for _ in range(60):
        middle = (low + high) / 2
        below = cdf(math.sqrt(freedom) * math.tan(middle), freedom) < probability
        low, high = (middle, high) if below else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)
