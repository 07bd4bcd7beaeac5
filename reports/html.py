"""The page: one HTML file with everything inside, readable without a network or scripts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from . import details, load, render, summary, tables
from .figures import DRAWINGS, Drawing
from .load import Records
from .render import Picture
from .summary import Summary
from .tables import Table

MOST_ROWS = 2500
PAGE_BYTES = 2_900_000


@dataclass(frozen=True)
class Section:
    """One kind of figure: what it is, its pictures, and a word where there are none."""

    key: str
    drawing: Drawing
    pictures: list[Picture]
    absence: str


@dataclass(frozen=True)
class Chapter:
    """Everything the page says about one run."""

    anchor: str
    records: Records
    summary: Summary
    headlines: list[Table]
    sections: list[Section]
    full: Table
    hidden_rows: int
    data: Markup
    details: list[Table]
    command: str

    @property
    def pictures(self) -> list[Picture]:
        """All pictures of the run."""
        return [picture for section in self.sections for picture in section.pictures]


def chapter(records: Records, folder: Path, anchor: str = "") -> Chapter:
    """Draw the figures of a run into ``folder`` and gather its texts and tables."""
    frame = load.representatives(records.frame)
    drawn = list(render.pictures(frame, folder, anchor))
    full, raw = tables.full(records.frame.head(MOST_ROWS))
    records.frame.drop(columns="folder").to_csv(folder / f"{anchor}table.csv", index=False)
    return Chapter(
        anchor=anchor,
        records=records,
        summary=summary.summarise(records, frame),
        headlines=list(tables.headline(frame)),
        sections=[
            Section(key, drawing, [p for p in drawn if p.section == key], _absence(key, frame))
            for key, drawing in DRAWINGS.items()
        ],
        full=full,
        hidden_rows=max(0, len(records.frame) - MOST_ROWS),
        data=script_data(raw),
        details=[
            tables.absences(records),
            *details.all_of(records),
            tables.environment(records.header),
        ],
        command=shlex.join(map(str, records.header.get("argv") or [])),
    )


def _absence(key: str, frame: pd.DataFrame) -> str:
    return summary.energy_note(frame) if key == "energy" else "Nothing to draw in this run."


def script_data(value: Any) -> Markup:
    """Encode for a ``<script type="application/json">``: no character can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def page(chapters: Sequence[Chapter], comparison: Sequence[Table]) -> str:
    """Fill the template; pictures that would make the page too heavy become links to files."""
    pictures = [picture for chapter in chapters for picture in chapter.pictures]
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("page.html")
    bare = template.render(chapters=chapters, comparison=comparison, inlined=set())
    inlined = render.allot(pictures, PAGE_BYTES - len(bare.encode()))
    return template.render(chapters=chapters, comparison=comparison, inlined=inlined)
