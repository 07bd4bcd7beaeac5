"""Two commits measured in turns by fresh processes: the process is the unit of every interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dynadiag.bench.records import Run
from dynadiag.bench.statistics import Interval

from .config import Config
from .controls import reasons, stable
from .environment import differences, title
from .gates import gates
from .outcome import ALL_CASES, Change, Comparison, Control, Kind
from .ratios import Cell, Table
from .tails import TAIL, YARDSTICK, read_tails
from .verdicts import Estimate, change, settle

Pair = tuple[Table, Table]  # base, head
Place = tuple[str, str, str]  # case, arm, baseline
LIKELY = 0.5  # below it, the estimate itself lies beyond `fail`


def judge_pairs(pairs: Sequence[tuple[Run, Run]], config: Config) -> Comparison:
    """Judge the second run of every pair against the first.

    Args:
        pairs: of processes that ran one after the other; the more, the narrower the intervals.
        config: the limits.
    """
    config = replace(config, baselines=_shared(pairs, config))
    tables = [(read_tails(base, config), read_tails(head, config)) for base, head in pairs]
    found = _found(tables)
    changes = [_change(place, both, tables, config) for place, both in found.items()]
    every = settle([*_overall(found, config), *changes], config)
    controls = tuple(_controls(tables, config))
    base, head = tables[0][0].header, tables[0][1].header
    return Comparison(
        mode="pairs",
        changes=tuple(each for each in every if each.case),
        overall=tuple(each for each in every if not each.case),
        gates=gates([pair[1] for pair in tables], [pair[0] for pair in tables], config),
        controls=controls,
        environment=differences(base, head),
        reasons=tuple(reasons(every, controls, config.limits.fail)),
        against=f"{title(head)} against {title(base)}",
        pairs=len(pairs),
    )


def needs_more(comparison: Comparison, config: Config) -> bool:
    """Whether more pairs could change what is said.

    They end where the mean of all cases cannot have slowed beyond its limit, or is known to
    `warn`; and no case looks like a regression, unless the mean is one already. Whoever stops at
    the first regression, however wide its interval, finds one in noise sooner or later.
    """
    if comparison.gates:
        return False
    if comparison.reasons:
        return True
    if any(each.p < 1 - config.rate and _wide(each, config) for each in comparison.overall):
        return True
    if any(each.kind is Kind.REGRESSION for each in comparison.overall):
        return False
    judged = [each for each in comparison.changes if not each.note]
    return any(each.p < LIKELY and _wide(each, config) for each in judged)


def _wide(each: Change, config: Config) -> bool:
    return each.ratio.half_width > config.limits.warn


def _shared(pairs: Sequence[tuple[Run, Run]], config: Config) -> tuple[str, ...]:
    """The baselines that every process measured: with any other the yardstick would change."""
    runs = [run for pair in pairs for run in pair]
    timed = [{row["arm"] for row in run.rows if row["stat"] == TAIL} for run in runs]
    return tuple(name for name in config.baselines if all(name in arms for arms in timed))


def _found(tables: Sequence[Pair]) -> dict[Place, dict[int, tuple[Cell, Cell]]]:
    """What both processes of a pair measured undisturbed, by place and number of the pair."""
    found: dict[Place, dict[int, tuple[Cell, Cell]]] = defaultdict(dict)
    for number, (base, head) in enumerate(tables):
        for place, now in head.cells.items():
            then = base.cells.get(place)
            if place[2] == YARDSTICK and then is not None and not then.flags and not now.flags:
                found[place][number] = (then, now)
    return found


def _change(
    place: Place,
    both: dict[int, tuple[Cell, Cell]],
    tables: Sequence[Pair],
    config: Config,
) -> Change:
    then, now = ([_log(pair[side]) for pair in both.values()] for side in (0, 1))
    first = next(iter(both.values()))[1]
    name = next(head.names[place[0]] for _, head in tables if place[0] in head.names)
    moved = Estimate.of([b - a for a, b in zip(then, now, strict=True)])
    return change(first.columns, name, *_sides(then, now, config), moved, config)


def _overall(found: dict[Place, dict[int, tuple[Cell, Cell]]], config: Config) -> Iterator[Change]:
    sides: dict[tuple[str, str], list[dict[int, tuple[Cell, Cell]]]] = defaultdict(list)
    for (_, arm, baseline), both in found.items():
        sides[arm, baseline].append(both)
    for (arm, baseline), cases in sides.items():
        then, now = (_means(cases, side) for side in (0, 1))
        columns = {"arm": arm, "baseline": baseline}
        moved = Estimate.of([b - a for a, b in zip(then, now, strict=True)])
        yield change(columns, ALL_CASES, *_sides(then, now, config), moved, config)


def _means(cases: Sequence[dict[int, tuple[Cell, Cell]]], side: int) -> list[float]:
    """The mean logarithm over cases, by pair, of the pairs that have most of the cases."""
    most = max((frozenset(case) for case in cases), key=len)
    whole = [case for case in cases if most <= case.keys()]
    return [math.fsum(_log(case[n][side]) for case in whole) / len(whole) for n in sorted(most)]


def _controls(tables: Sequence[Pair], config: Config) -> Iterator[Control]:
    for arm in (config.aa, *config.baselines):
        both = [(_mean(a, arm, config), _mean(b, arm, config)) for a, b in tables]
        moved = [now - then for then, now in both if then is not None and now is not None]
        name = "the A/A arm" if arm == config.aa else f"{arm} over {config.anchor}"
        if moved or arm == config.aa:
            found = Estimate.of(moved) if moved else None
            yield stable(f"{name}, head over base,", found, config)


def _mean(table: Table, arm: str, config: Config) -> float | None:
    """The mean logarithm of the ratio of an arm to the anchor, in one process."""
    places = ((case, arm, config.anchor) for case in table.names)
    logs = [_log(table.cells[place]) for place in places if place in table.cells]
    return math.fsum(logs) / len(logs) if logs else None


def _sides(
    then: Sequence[float], now: Sequence[float], config: Config
) -> tuple[Interval, Interval]:
    return Estimate.of(then).interval(config.level), Estimate.of(now).interval(config.level)


def _log(cell: Cell) -> float:
    return math.log(cell.ratio.value)
