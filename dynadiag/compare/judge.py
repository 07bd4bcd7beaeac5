"""A run against a stored one of the same device: speedup now over speedup then."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dynadiag.bench.records import Run
from dynadiag.bench.statistics import Interval, geomean

from .config import Config
from .controls import pooled_aa, reasons, stable
from .environment import another_device, differences, title
from .gates import gates
from .outcome import ALL_CASES, Change, Comparison, Control
from .ratios import Cell, Table, cells, merged, read_table
from .verdicts import Estimate, change, settle, standard_error

Pair = tuple[Cell, Cell]  # then, now
ENOUGH = 3  # cases from which on their scatter says how uncertain their mean is


def compare(now: Run, reference: Run, config: Config, again: Sequence[Run] = ()) -> Comparison:
    """Judge a run against a stored one.

    Args:
        now: what was measured.
        reference: what it is held against.
        config: the limits.
        again: runs that measured some of the cases of `now` once more; they are averaged in.
    """
    # What all cases of a process have in common, no single process shows: no finer limit for them.
    config = replace(config, overall=config.limits.fail)
    table, then = merged(read_table(now), map(read_table, again)), read_table(reference)
    device = another_device(then.header, table.header)
    pairs = _pairs(table, then, config)
    changes = [_change(pair, table.names, config) for pair in pairs]
    every = settle([*_overall(pairs, config), *changes], config)
    controls = tuple(_controls(table, then, config))
    return Comparison(
        mode="reference",
        changes=tuple(each for each in every if each.case),
        overall=tuple(each for each in every if not each.case),
        gates=gates([table], [then], config) if table.names and not device else (),
        controls=controls,
        environment=differences(then.header, table.header),
        reasons=(device,) if device else tuple(reasons(every, controls, config.limits.fail)),
        against=f"{title(table.header)} against {title(then.header)}",
    )


def _pairs(table: Table, then: Table, config: Config) -> list[Pair]:
    found = ((then.cell(*now.place, config.anchor), now) for now in cells(table, config))
    return [(before, now) for before, now in found if before is not None]


def _change(pair: Pair, names: dict[str, str], config: Config) -> Change:
    then, now = pair
    moved = Estimate(_log(pair), _error(pair, config))
    note = now.doubt or then.doubt
    return change(now.columns, names[now.case], then.ratio, now.ratio, moved, config, note)


def _overall(pairs: Sequence[Pair], config: Config) -> Iterator[Change]:
    sides: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for then, now in pairs:
        if then.sound and now.sound:
            sides[now.place[1:]].append((then, now))
    for (arm, baseline), mine in sides.items():
        before, after = (_mean([pair[i].ratio for pair in mine], config) for i in (0, 1))
        columns = {"arm": arm, "baseline": baseline}
        yield change(columns, ALL_CASES, before, after, _mean_change(mine, config), config)


def _controls(table: Table, then: Table, config: Config) -> Iterator[Control]:
    yield pooled_aa("the A/A arm of the reference", then, config)
    yield pooled_aa("the A/A arm of this run", table, config)
    for baseline in config.baselines:
        places = [(case, baseline, config.anchor) for case in table.names]
        both = [(then.cells.get(place), table.cells.get(place)) for place in places]
        pairs = [(a, b) for a, b in both if a and b and a.sound and b.sound]
        if pairs:
            name = f"{baseline} over {config.anchor}, now over the reference,"
            yield stable(name, _mean_change(pairs, config), config)


def _mean_change(pairs: Sequence[Pair], config: Config) -> Estimate:
    """The mean over cases; their scatter holds what differs from process to process."""
    logs = [_log(pair) for pair in pairs]
    if len(logs) >= ENOUGH:
        return Estimate.of(logs)
    error = math.hypot(*(_error(pair, config) for pair in pairs)) / len(pairs)
    return Estimate(math.fsum(logs) / len(logs), error, n=len(logs))


def _mean(ratios: Sequence[Interval], config: Config) -> Interval:
    value = geomean([ratio.value for ratio in ratios])
    return Interval(value, 0.0, math.inf, len(ratios), config.level)


def _log(pair: Pair) -> float:
    return math.log(pair[1].ratio.value / pair[0].ratio.value)


def _error(pair: Pair, config: Config) -> float:
    """Both intervals, and what processes differ by."""
    inside = [standard_error(cell.ratio) for cell in pair]
    between = [config.process / math.sqrt(cell.processes) for cell in pair]
    return math.hypot(*inside, *between)
