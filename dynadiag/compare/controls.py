"""What tells noise from change: arms that no change of the kernels can have touched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dynadiag.bench.statistics import MARGIN, Interval, Ratio, Verdict, pooled, verdict

from .config import Config
from .outcome import Change, Control, Kind
from .ratios import Table
from .verdicts import Estimate


def pooled_aa(name: str, table: Table, config: Config) -> Control:
    """The A/A arm of one run: over all cases together it must be SAME."""
    cells = [table.cells.get((case, config.aa, config.anchor)) for case in table.names]
    found = [cell.ratio for cell in cells if cell is not None and cell.sound]
    if not found:
        return Control(name, None, moved=True)
    every = pooled([Ratio(r.value, r.lo, r.hi, r.n, r.level) for r in found])
    return Control(name, every, moved=verdict(every, MARGIN) is not Verdict.SAME)


def stable(name: str, moved: Estimate | None, config: Config) -> Control:
    """A control that counts as moved only when its whole interval is beyond `warn`."""
    if moved is None:
        return Control(name, None, moved=True)
    ratio = moved.interval(config.level)
    return Control(
        name, ratio, verdict(ratio, config.limits.warn) in (Verdict.FASTER, Verdict.SLOWER)
    )


def reasons(
    changes: Sequence[Change], controls: Sequence[Control], visible: float | None
) -> Iterator[str]:
    """Why nothing can be said about time, if so.

    Args:
        changes: of single cases and of all.
        controls: what must not have moved.
        visible: the change that noise must not hide; None to allow any noise.
    """
    if not changes:
        yield "no case was measured that can be compared"
        return
    yield from (f"{each.name} {_moved(each.ratio)}" for each in controls if each.moved)
    sound = [each for each in changes if not each.note]
    if not sound:
        yield f"every case is in doubt: {', '.join(sorted({each.note for each in changes}))}"
    elif visible is not None and all(each.kind is not Kind.REGRESSION for each in sound):
        best = min(each.ratio.half_width for each in sound)
        if best > visible:
            yield f"the noise is too strong: {_percent(best)} at best, to see {visible:.0%}"


def _percent(half: float) -> str:
    return "unknown" if math.isinf(half) else f"± {math.expm1(half):.0%}"


def _moved(ratio: Interval | None) -> str:
    if ratio is None:
        return "was not measured"
    return f"is {ratio.value:.4f} [{ratio.lo:.4f}, {ratio.hi:.4f}], not 1"
