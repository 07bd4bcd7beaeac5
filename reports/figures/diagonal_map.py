"""Where the weights of a layer are at the end: the matrix with its active entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import layout, methods, topology, words
from ..style import Theme, themed

HEADING = "Map of a layer at the end"
METHOD = (
    "The weight matrix of one layer of one seed, an output a row and an input a column; marked "
    "entries are active after the last update. Wrapped diagonals leave one side and come back at "
    "the other. RigL, which may choose any entry, stands beside them where it was traced."
)
SPLIT = ("task",)
TALLEST = 3.6


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Stretches of active entries in a row: first and last column."""
    columns = ["method", "row", "first", "last"]
    parts = [_stretches(trace) for trace in _mapped(frame).itertuples()]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _mapped(frame: pd.DataFrame) -> pd.DataFrame:
    diagonal = frame.index.isin(topology.diagonals(frame).index) | (frame["method"] == "rigl")
    kept = frame[diagonal & frame["shape"].notna()].drop_duplicates("method")
    return kept.set_index("method", drop=False).loc[methods.arranged(kept["method"])]


def _stretches(trace: Any) -> pd.DataFrame:
    active = topology.cells(trace.active[-1], trace.shape)
    gap = np.zeros((len(active), 1), dtype=np.int8)
    change = np.diff(np.concatenate([gap, active.astype(np.int8), gap], axis=1), axis=1)
    row, first = np.nonzero(change > 0)
    _, after = np.nonzero(change < 0)
    table = {"row": row, "first": first, "last": after - 1}
    return pd.DataFrame(table).assign(method=trace.method)


def title(frame: pd.DataFrame) -> str:
    """How much of the layer is there, method by method."""
    found = []
    for trace in _mapped(frame).itertuples():
        share = topology.cells(trace.active[-1], trace.shape).mean()
        found.append(f"{methods.named(trace.method)} {words.percent(round(float(share), 3))}")
    return f"Active at the end: {words.listing(found)} of the layer"


@themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Methods side by side."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no run kept the topology and the size of a layer", theme)
    names = methods.arranged(shown["method"])
    rows, columns = _mapped(frame)["shape"].iloc[0]
    abreast = min(4, len(names))
    panel = _panel_inches(rows, columns, abreast)
    sheet, axes = layout.sheet(
        -(-len(names) // abreast),
        abreast,
        panel=panel,
        title=title(frame),
        note=topology.provenance(frame),
        margins=layout.Margins(between_columns=0.25, between_rows=0.7),
    )
    for place, name in layout.filled(axes, names):
        colour = methods.look(name, theme).colour
        _panel(place, shown[shown["method"] == name], colour, 72 * panel[1] / rows)
        place.set_title(methods.named(name), fontweight="bold")
        place.set_xlabel("input")
    axes[0, 0].set_xlim(-0.5, columns - 0.5)
    axes[0, 0].set_ylim(rows - 0.5, -0.5)
    axes[0, 0].set_ylabel("output")
    return sheet


def _panel_inches(rows: int, columns: int, abreast: int) -> tuple[float, float]:
    """Square entries where the sheet allows it."""
    width = 6.0 / abreast - 0.2
    height = width * rows / columns
    return (width, height) if height <= TALLEST else (max(1.2, TALLEST * columns / rows), TALLEST)


def _panel(axes: Axes, shown: pd.DataFrame, colour: str, points_high: float) -> None:
    """Draw all stretches as one path with gaps, each as high as an entry."""
    gap = np.full(len(shown), np.nan)
    x = np.stack([shown["first"].to_numpy() - 0.5, shown["last"].to_numpy() + 0.5, gap])
    y = np.stack([shown["row"].to_numpy(dtype=float)] * 2 + [gap])
    axes.plot(x.T.ravel(), y.T.ravel(), color=colour, linewidth=points_high, solid_capstyle="butt")
    axes.grid(visible=False)
