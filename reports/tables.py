"""Tables of the page: plain cells, escaped by the template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import load, style, tally, words
from .load import Records
from .tally import Tally


@dataclass(frozen=True)
class Cell:
    """Text of a cell, a smaller note below it, and a tone: win, lose, bad or none."""

    text: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A caption, column names and rows of cells."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def headline(frame: pd.DataFrame) -> Iterator[Table]:
    """Speedup by format and sparsity, a table a regime, dtype and direction."""
    for key, part in load.variants(frame, ("regime", "dtype", "direction")):
        sparsities = sorted(part["sparsity"].dropna().unique())
        names = [name for name in style.formats(part) if name != "dense"]
        rows = [
            [Cell(style.named(name), "vs dense"), *_tallies(part, name, sparsities)]
            for name in names
        ]
        if {"diagonal", "csr"} <= set(names):
            cells = _tallies(part, "diagonal", sparsities, "csr_speedup")
            rows.append([Cell("diagonal", "vs CSR"), *cells])
        columns = ["", *(words.percent(sparsity) for sparsity in sparsities)]
        if rows:
            yield Table(" · ".join(key), columns, rows)


def _tallies(
    frame: pd.DataFrame, name: str, sparsities: Sequence[float], ratio: str = "speedup"
) -> list[Cell]:
    own = frame[frame["format"] == name]
    return [_tally_cell(own[own["sparsity"] == sparsity], ratio) for sparsity in sparsities]


def _tally_cell(cases: pd.DataFrame, ratio: str) -> Cell:
    found = tally.tally(cases, ratio)
    statuses = cases["status"].value_counts()
    absent = [f"{statuses[s]} {s}" for s in ("wrong", "failed", "skipped") if s in statuses]
    if not found.compared:
        tone = "bad" if {"wrong", "failed"} & set(statuses.index) else ""
        return Cell(words.MISSING, ", ".join(absent), tone)
    return Cell(words.ratio(found.geomean), ", ".join([_counts(found), *absent]), _tone(found))


def _counts(found: Tally) -> str:
    undecided = f" ({found.undecided} ?)" if found.undecided else ""
    return f"{found.wins}–{found.ties}–{found.losses}{undecided}"


def _tone(found: Tally) -> str:
    """A colour only where every case says the same."""
    if found.wins == found.compared:
        return "win"
    return "lose" if found.losses == found.compared else ""


# column of the full table -> how to write it; the raw values travel as JSON for sorting
FULL: dict[str, Callable[[Any], str]] = {
    "model": str,
    "shape": lambda text: text.replace("x", " → "),
    "batch": words.number,
    "dtype": str,
    "direction": str,
    "regime": str,
    "sparsity": words.percent,
    "arm": str,
    "time": words.seconds,
    "speedup": words.ratio,
    "speedup_verdict": str,
    "csr_speedup": words.ratio,
    "weight_bytes": words.size,
    "peak_bytes": words.size,
    "config": str,
    "note": str,
}
NAMES = {
    "speedup": "vs dense",
    "speedup_verdict": "verdict",
    "csr_speedup": "vs CSR",
    "weight_bytes": "weights",
    "peak_bytes": "peak",
    "config": "algorithm",
}
SPANS = {"time": words.seconds, "speedup": words.ratio, "csr_speedup": words.ratio}


def full(frame: pd.DataFrame) -> tuple[Table, dict[str, list[Any]]]:
    """Every arm of every case, and the same values raw, column by column."""
    notes = frame["status"].where(frame["status"] != "ok", "")
    for extra in ("reason", "flags"):
        notes = (notes + " " + frame[extra].fillna("").astype(str)).str.strip()
    shown = frame.assign(note=notes, speedup_verdict=frame["speedup_verdict"].fillna(""))
    shown["config"] = shown["config"].fillna("").astype(object)
    bad = shown["status"].isin(["wrong", "failed"]).to_numpy()
    columns = [_column(shown, name) for name in FULL]
    rows = [
        [Cell(cell.text, cell.note, "bad" if bad[place] else "") for cell in cells]
        for place, cells in enumerate(zip(*columns, strict=True))
    ]
    raw = {name: [_plain(value) for value in shown[name]] for name in (*FULL, "format")}
    return Table("Every arm of every case", [NAMES.get(n, n) for n in FULL], rows), raw


def _column(frame: pd.DataFrame, name: str) -> list[Cell]:
    write = FULL[name]
    if name not in SPANS:
        return [Cell(write(value)) for value in frame[name]]
    ends = zip(frame[f"{name}_lo"], frame[f"{name}_hi"], strict=True)
    notes = [f"{write(low)} – {write(high)}" if low > 0 else "" for low, high in ends]
    return [Cell(write(v), note) for v, note in zip(frame[name], notes, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def absences(records: Records) -> Table:
    """What was not timed and why: skipped, wrong and failed arms, and failed cases."""
    arms = records.frame[records.frame["status"] != "ok"]
    columns = ["status", "arm", "reason", "shape", "batch", "sparsity"]
    lost = pd.concat([arms[columns], records.failures[columns]])
    lost["reason"] = lost["reason"].fillna("no reason recorded")
    lost["arm"] = lost["arm"].fillna("whole case")
    rows = []
    for (status, arm, reason), part in lost.groupby(["status", "arm", "reason"], sort=True):
        places = words.listing(sorted(set(part["shape"])))
        sparsities = words.listing([words.percent(s) for s in sorted(set(part["sparsity"]))])
        tone = "bad" if status != "skipped" else ""
        texts = [arm, status, reason, str(len(part)), places, sparsities]
        rows.append([Cell(str(text), tone=tone) for text in texts])
    return Table("Not timed", ["arm", "status", "reason", "cases", "shapes", "sparsities"], rows)


def environment(header: Mapping[str, Any]) -> Table:
    """The header, one dotted name a row."""
    rows = [[Cell(name), Cell(value)] for name, value in _flat(header)]
    return Table("Environment", ["", ""], rows)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or words.MISSING
    else:
        yield name, words.MISSING if value is None else str(value)


def comparison(runs: Sequence[Records]) -> Iterator[Table]:
    """Several runs side by side, over the cases that all of them measured."""
    frames = [load.representatives(run.frame) for run in runs]
    shared = set.intersection(*(set(frame["case_id"]) for frame in frames))
    kept = [frame[frame["case_id"].isin(shared)] for frame in frames]
    for key, part in load.variants(kept[0], ("regime", "dtype", "direction")):
        sparsities = sorted(part["sparsity"].unique())
        rows = []
        for name in (name for name in style.formats(part) if name != "dense"):
            for run, frame in zip(runs, kept, strict=True):
                here = frame[frame["case_id"].isin(part["case_id"])]
                rows.append([Cell(style.named(name), run.label), *_tallies(here, name, sparsities)])
        columns = ["", *(words.percent(sparsity) for sparsity in sparsities)]
        yield Table(f"{' · '.join(key)}, cases in every run", columns, rows)
