"""Numbers as people read them: ratios, bytes, seconds, and short lists of names."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

MISSING = "–"
# What joules of a card are worth.
NVML = "NVML, informative; not wall power"
# What the times of a regime hold, where a run has others than `eager`.
REGIMES = {
    "cold": "cold: caches flushed, launch hidden",
    "warm": "warm: repeated in the cache, no launches",
    "eager": "eager: launches included",
}


def ratio(value: float) -> str:
    """Write a speedup with two or three significant digits, as in ``4.1×`` or ``0.93×``."""
    if not math.isfinite(value):
        return MISSING
    if value < 0.095:
        return f"{value:.2g}×"
    return f"{value:.2f}×" if value < 1.95 else f"{value:.1f}×" if value < 99.5 else f"{value:.0f}×"


def scaled(value: float, unit: str, steps: Sequence[tuple[float, str]]) -> str:
    """Write ``value`` with the largest prefix of ``steps`` that leaves it at least 1."""
    if not math.isfinite(value):
        return MISSING
    size, prefix = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{value / size:.3g} {prefix}{unit}"


def seconds(value: float) -> str:
    """Write a duration in s, ms, µs or ns."""
    return scaled(value, "s", [(1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")])


def size(value: float) -> str:
    """Write a number of bytes in GB, MB, kB or B (powers of 1000)."""
    return scaled(value, "B", [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")])


def joules(value: float) -> str:
    """Write an energy in J, mJ, µJ or nJ."""
    return scaled(value, "J", [(1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")])


def watts(value: float) -> str:
    """Write a power in W."""
    return scaled(value, "W", [(1, "")])


def percent(fraction: float) -> str:
    """Write a fraction as a percentage without needless digits."""
    return f"{100 * fraction:.3g} %" if math.isfinite(fraction) else MISSING


def number(value: float) -> str:
    """Write any number with four significant digits; whole numbers keep all of theirs."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def span(values: Iterable[float], write: str = "{:g}") -> str:
    """Write one value, or the least and the greatest: ``16`` or ``1–1576``."""
    known = sorted(value for value in values if math.isfinite(value))
    ends = dict.fromkeys(write.format(value) for value in (*known[:1], *known[-1:]))
    return "–".join(ends) or MISSING


def listing(names: Sequence[str]) -> str:
    """Join names as a sentence does: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def count(number: int, noun: str) -> str:
    """Write ``1 case``, ``2 cases``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def wrapped(text: str, inches: float, points: float) -> str:
    """Break ``text`` into lines that fit ``inches`` at a font size of ``points``, bold or not."""
    width = max(24, int(inches * 72 / (points * 0.64)))
    lines = textwrap.wrap(text.replace(" %", "\u00a0%"), width)
    return "\n".join(lines).replace("\u00a0%", " %")
