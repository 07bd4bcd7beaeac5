"""What the page says about one run: a part on times, a part on accuracy, or both."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from . import details, findings, load, render, summary, tables, training_tables
from .figures import DRAWINGS, TRACED, TRADED, TRAINED, Drawing, pareto
from .findings import Findings
from .load import Records
from .render import Picture
from .summary import Summary
from .tables import Table

MOST_ROWS = 2500
NOTHING = "Nothing to draw in this run."
NO_SPEED = (
    "No timing run of this report measured the forward pass of these formats at these sparsities. "
    "Give one as well: dynadiag report ACCURACY-RUN TIMING-RUN."
)
NO_TRACE = "No topology of this kind was watched in this run."


@dataclass(frozen=True)
class Section:
    """One kind of figure: what it is, its pictures, and a word where there are none."""

    key: str
    drawing: Drawing
    pictures: list[Picture]
    absence: str


@dataclass(frozen=True)
class Timing:
    """The part on times."""

    summary: Summary
    headlines: list[Table]
    sections: list[Section]
    full: Table
    hidden_rows: int
    data: Markup


@dataclass(frozen=True)
class Training:
    """The part on accuracy."""

    findings: Findings
    headlines: list[Table]
    differences: list[Table]
    sections: list[Section]


@dataclass(frozen=True)
class Chapter:
    """Everything the page says about one run; a part without rows is None."""

    anchor: str
    records: Records
    timing: Timing | None
    training: Training | None
    details: list[Table]
    command: str

    @property
    def pictures(self) -> list[Picture]:
        """All pictures of the run."""
        parts = [part for part in (self.timing, self.training) if part is not None]
        return [picture for part in parts for each in part.sections for picture in each.pictures]


def chapter(records: Records, folder: Path, speeds: pd.DataFrame, anchor: str = "") -> Chapter:
    """Draw the figures of a run into ``folder`` and gather its texts and tables.

    Args:
        records: the run.
        folder: for the figures.
        speeds: of formats, by all runs of the report; see ``figures.pareto.speeds``.
        anchor: before the names of its files and the anchors of the page.
    """
    trained = not records.accuracy.empty
    # A run that stopped before its first row counts as one of times.
    timed = not (records.frame.empty and records.failures.empty and trained)
    return Chapter(
        anchor=anchor,
        records=records,
        timing=_timing(records, folder, anchor) if timed else None,
        training=_training(records, folder, speeds, anchor) if trained else None,
        details=[
            *([tables.absences(records), *details.all_of(records)] if timed else []),
            *(_accounts(records) if trained else []),
            tables.environment(records.header),
        ],
        command=shlex.join(map(str, records.header.get("argv") or [])),
    )


def _timing(records: Records, folder: Path, anchor: str) -> Timing:
    frame = load.representatives(records.frame)
    full, raw = tables.full(records.frame.head(MOST_ROWS))
    records.frame.drop(columns="folder").to_csv(folder / f"{anchor}table.csv", index=False)
    absences = {"energy": summary.energy_note(frame)}
    return Timing(
        summary=summary.summarise(records, frame),
        headlines=list(tables.headline(frame)),
        sections=_sections(DRAWINGS, frame, folder, anchor, absences),
        full=full,
        hidden_rows=max(0, len(records.frame) - MOST_ROWS),
        data=script_data(raw),
    )


def _training(records: Records, folder: Path, speeds: pd.DataFrame, anchor: str) -> Training:
    frame = records.accuracy
    frame.to_csv(folder / f"{anchor}accuracy-table.csv", index=False)
    traded = pareto.joined(frame, speeds)
    absent = dict.fromkeys(TRACED, NO_TRACE)
    return Training(
        findings=findings.find(frame),
        headlines=list(training_tables.results(frame)),
        differences=list(training_tables.differences(frame)),
        sections=[
            *_sections(TRAINED, frame, folder, anchor, {}),
            *_sections(TRADED, traded, folder, anchor, {"pareto": NO_SPEED}),
            *_sections(TRACED, records.traces, folder, anchor, absent),
        ],
    )


def _accounts(records: Records) -> Sequence[Table]:
    return (
        training_tables.absences(records.accuracy),
        training_tables.searches(records.searches),
        training_tables.recipes(records.accuracy),
        training_tables.freezing(records.accuracy),
    )


def _sections(
    drawings: Mapping[str, Drawing],
    frame: pd.DataFrame,
    folder: Path,
    anchor: str,
    absences: Mapping[str, str],
) -> list[Section]:
    drawn = list(render.pictures(drawings, frame, folder, anchor))
    return [
        Section(key, drawing, [p for p in drawn if p.section == key], absences.get(key, NOTHING))
        for key, drawing in drawings.items()
    ]


def script_data(value: Any) -> Markup:
    """Encode for a ``<script type="application/json">``: no character can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
