"""A run held against its own baselines only: speedups and verdicts, no changes."""

from __future__ import annotations

from dynadiag.bench.records import Run
from dynadiag.bench.statistics import Verdict, verdict

from .config import Config
from .controls import pooled_aa, reasons
from .environment import title
from .gates import gates
from .outcome import Change, Comparison, Kind
from .ratios import Cell, Table, cells, read_table


def judge_alone(run: Run, config: Config) -> Comparison:
    """Say how the subjects of a run stand against its baselines; only gates can fail it."""
    table = read_table(run)
    changes = tuple(_standing(cell, table, config) for cell in cells(table, config))
    control = pooled_aa("A/A", table, config)
    return Comparison(
        mode="run",
        changes=changes,
        gates=gates([table], [], config),
        controls=(control,),
        reasons=tuple(reasons(changes, (control,), None)),
        against=f"{title(table.header)}, against its own baselines",
    )


def _standing(cell: Cell, table: Table, config: Config) -> Change:
    found = verdict(cell.ratio, config.limits_of(cell.columns).margin)
    return Change(
        case=cell.case,
        name=table.names[cell.case],
        arm=cell.place[1],
        baseline=cell.place[2],
        reference=None,
        now=cell.ratio,
        ratio=cell.ratio,
        verdict=found if cell.sound else Verdict.AMBIGUOUS,
        kind=Kind.STANDING,
        columns=cell.columns,
        note=cell.doubt,
    )
