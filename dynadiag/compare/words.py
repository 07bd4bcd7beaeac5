"""What the terminal and Markdown have in common: the headline, the counts, numbers as words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from dynadiag.bench.statistics import Interval

from .outcome import Change, Comparison, Kind, Status

HEADS = ("case", "arm", "over", "before", "now", "change", "finding")
STANDING_HEADS = ("case", "arm", "over", "speedup", "finding")
LOOKS_LIKE_ONE = 0.03  # an estimate that is worth a line though its interval allows no change
_ORDER = tuple(Kind)
_MOVED = (Kind.REGRESSION, Kind.UNCONFIRMED, Kind.WARNING, Kind.IMPROVEMENT)
_PLURAL = {Kind.REGRESSION: "regressions", Kind.WARNING: "warnings"}
_PLURAL |= {Kind.IMPROVEMENT: "improvements"}


def headline(found: Comparison) -> str:
    """The finding in one line."""
    if found.status is Status.NOT_MEASURABLE:
        return f"NOT MEASURABLE: {'; '.join(found.reasons)}"
    if found.status is Status.OK:
        return f"OK: {_tally(found)}"
    parts = [f"{len(found.gates)} exact checks failed"] if len(found.gates) > 1 else []
    parts += ["1 exact check failed"] if len(found.gates) == 1 else []
    parts += ["time not measurable"] if found.reasons else [_tally(found)]
    return f"REGRESSION: {', '.join(parts)}"


def _tally(found: Comparison) -> str:
    whole = f"; all cases together: {counts(found.overall)}" if found.overall else ""
    return counts(found.changes) + whole


def counts(changes: Iterable[Change]) -> str:
    """How many of each kind: ``2 regressions, 38 same``."""
    tally = Counter(each.kind for each in changes)
    if tally[Kind.STANDING]:
        return f"{tally[Kind.STANDING]} speedups measured"
    words = [_count(tally[kind], kind) for kind in _ORDER if tally[kind]]
    return ", ".join(words) or "nothing compared"


def listed(found: Comparison) -> list[Change]:
    """The changes worth a line: those that are one, and those that look like one."""
    every = (*found.overall, *found.changes)
    shown = [each for each in every if _shown(each)]
    return sorted(shown, key=lambda each: (_ORDER.index(each.kind), each.case != ""))


def cells(each: Change) -> list[str]:
    """The words of one line, in the order of `HEADS`, or `STANDING_HEADS` for a run alone."""
    about = [each.name, each.arm, each.baseline]
    if each.reference is None:
        return [*about, with_interval(each.now), each.note or str(each.verdict)]
    finding = f"{each.kind} ({each.note})" if each.note else str(each.kind)
    times = [f"{_digits(each.reference.value)}×", f"{_digits(each.now.value)}×"]
    return [*about, *times, change(each.ratio), finding]


def heads(changes: Sequence[Change]) -> tuple[str, ...]:
    """What stands above those words."""
    return STANDING_HEADS if changes and changes[0].reference is None else HEADS


def change(ratio: Interval) -> str:
    """A change of speed with its interval, in per cent."""
    if not math.isfinite(ratio.hi):
        return _percent(ratio.value)
    return f"{_percent(ratio.value)} [{_percent(ratio.lo)}, {_percent(ratio.hi)}]"


def with_interval(ratio: Interval) -> str:
    """A speedup with its interval."""
    if not math.isfinite(ratio.hi):
        return f"{_digits(ratio.value)}×"
    return f"{_digits(ratio.value)}× [{_digits(ratio.lo)}, {_digits(ratio.hi)}]"


def one_sided(found: Comparison) -> str:
    """A warning where everything moved one way, which one cause outside the kernels can do."""
    sides = {each.ratio.value < 1 for each in found.changes if each.kind in _MOVED}
    many = sum(each.kind in _MOVED for each in found.changes) >= 8
    return "every change has the same sign: one cause for all?" if many and len(sides) == 1 else ""


def _shown(each: Change) -> bool:
    if each.kind is Kind.AMBIGUOUS:
        # A mean over cases that moved differently is ambiguous by nature: its cases tell more.
        return bool(each.note) or (each.case != "" and abs(each.ratio.value - 1) > LOOKS_LIKE_ONE)
    return each.kind is not Kind.WITHIN


def _digits(ratio: float) -> str:
    return f"{ratio:#.3g}" if ratio < 99.95 else f"{ratio:.0f}"


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+z.1%}"


def _count(number: int, kind: Kind) -> str:
    return f"{number} {_PLURAL.get(kind, kind) if number > 1 else kind}"
