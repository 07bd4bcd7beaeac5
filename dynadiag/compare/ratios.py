"""What a run says of its arms: speedups with intervals, bytes, and what went wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dynadiag.bench.records import Row, Run
from dynadiag.bench.statistics import LEVEL, Interval

from .config import Config

# Flags of a time that holds something else than the arm, or stands on a few calls.
DOUBTS = ("launch_bound", "unresolved", "throttled", "outside_rounds")
UNSTABLE = "peak_differs"


@dataclass(frozen=True)
class Cell:
    """The speedup of one arm over one baseline in one case.

    Attributes:
        columns: of its row, `arm` and `baseline` among them.
        flags: those that leave its time in doubt.
        processes: that measured it.
    """

    columns: Mapping[str, Any]
    ratio: Interval
    flags: tuple[str, ...] = ()
    processes: int = 1

    @property
    def case(self) -> str:
        """Id of the case."""
        return str(self.columns["case_id"])

    @property
    def place(self) -> tuple[str, str, str]:
        """Case, arm and baseline: what to look it up by in another run."""
        return self.case, str(self.columns["arm"]), str(self.columns["baseline"])

    @property
    def doubt(self) -> str:
        """Why no claim may rest on it; empty where one may."""
        few = [] if math.isfinite(self.ratio.half_width) else ["too few rounds"]
        return ", ".join(self.flags or few)

    @property
    def sound(self) -> bool:
        """Whether a claim may rest on it."""
        return not self.doubt


@dataclass
class Arm:
    """What is exact about one arm in one case."""

    status: str = "ok"
    reason: str | None = None
    weight_bytes: float | None = None
    peak_bytes: float | None = None


@dataclass(frozen=True)
class Table:
    """One run, by case and arm.

    Attributes:
        cells: by case, arm and baseline.
        arms: by case and arm; the arm is empty for a case that failed as a whole.
        names: of the cases, by id; they are those that `dynadiag bench -k` matches.
    """

    header: Mapping[str, Any]
    cells: dict[tuple[str, str, str], Cell] = field(default_factory=dict)
    arms: dict[tuple[str, str], Arm] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def cell(self, case: str, arm: str, baseline: str, anchor: str) -> Cell | None:
        """The speedup of `arm` over `baseline`, by way of `anchor` where no row has it."""
        found = self.cells.get((case, arm, baseline))
        if found is not None or anchor in (arm, baseline):
            return found
        ours = self.cells.get((case, arm, anchor))
        theirs = self.cells.get((case, baseline, anchor))
        return None if ours is None or theirs is None else _through(ours, theirs)


def cells(table: Table, config: Config) -> Iterator[Cell]:
    """The speedups of the subjects over the baselines, as far as a run has them."""
    for case in table.names:
        for arm in config.subjects:
            for baseline in config.baselines:
                cell = table.cell(case, arm, baseline, config.anchor)
                if cell is not None:
                    yield cell


def read_table(run: Run) -> Table:
    """Sort the rows of a run by case and arm."""
    table = Table(run.header)
    for row in run.rows:
        case, arm = str(row["case_id"]), str(row["arm"] or "")
        table.names.setdefault(case, _name(row))
        if row["metric"] == "speedup" and row["value"] is not None:
            table.cells[case, arm, str(row["baseline"])] = _cell(row)
        elif arm or row["status"] != "ok":
            _note(table.arms.setdefault((case, arm), Arm()), row)
    return table


def merged(first: Table, others: Iterable[Table]) -> Table:
    """`first` with the cells that others measured again averaged in; the rest as it is."""
    cells = dict(first.cells)
    for other in others:
        for key, again in other.cells.items():
            cells[key] = _average(cells[key], again) if key in cells else again
    return replace(first, cells=cells)


def interval(log: float, half: float, like: Interval) -> Interval:
    """An interval of half-width `half` about the logarithm `log`, level and rounds of `like`."""
    return replace(like, value=math.exp(log), lo=math.exp(log - half), hi=_exp(log + half))


def _exp(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf


def _cell(row: Row) -> Cell:
    lo, hi = row["ci_lo"], row["ci_hi"]
    if lo is None or hi is None:
        lo, hi = 0.0, math.inf
    ratio = Interval(row["value"], lo, hi, row["n"] or 0, row["ci_level"] or LEVEL)
    return Cell(row, ratio, tuple(flag for flag in row["flags"] if flag in DOUBTS))


def _through(ours: Cell, theirs: Cell) -> Cell:
    log = math.log(ours.ratio.value / theirs.ratio.value)
    half = math.hypot(ours.ratio.half_width, theirs.ratio.half_width)
    columns = {**ours.columns, "baseline": theirs.columns["arm"]}
    flags = tuple(dict.fromkeys((*ours.flags, *theirs.flags)))
    return Cell(columns, interval(log, half, ours.ratio), flags, ours.processes)


def _average(first: Cell, again: Cell) -> Cell:
    whole = first.processes + again.processes
    logs = [math.log(cell.ratio.value) * cell.processes for cell in (first, again)]
    halves = [cell.ratio.half_width * cell.processes for cell in (first, again)]
    ratio = interval(sum(logs) / whole, math.hypot(*halves) / whole, first.ratio)
    ratio = replace(ratio, n=first.ratio.n + again.ratio.n)
    flags = tuple(dict.fromkeys((*first.flags, *again.flags)))
    return Cell(first.columns, ratio, flags, whole)


def _note(arm: Arm, row: Row) -> None:
    if row["status"] != "ok":
        arm.status, arm.reason = row["status"], row["reason"]
    elif row["metric"] == "weight_bytes":
        arm.weight_bytes = row["value"]
    elif row["metric"] == "peak_bytes" and UNSTABLE not in row["flags"]:
        arm.peak_bytes = row["value"]


def _name(row: Row) -> str:
    parts = (row["direction"], row["shape"], f"b{row['batch']}", row["dtype"])
    name = "-".join(str(part) for part in (*parts, f"s{row['sparsity'] or 0:g}"))
    return name if row["regime"] in (None, "eager") else f"{name}-{row['regime']}"
