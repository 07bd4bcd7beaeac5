"""Which diagonals of a layer were active when: offset against step, one panel a method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import layout, methods, topology
from ..style import Theme, themed

HEADING = "Active diagonals over training"
METHOD = (
    "A stroke lasts as long as the diagonal at that offset was active in one layer of one seed. "
    "Coloured: active at the end; grey: dropped before."
)
SPLIT = ("task",)


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Every uninterrupted time a diagonal was active."""
    columns = ["method", "offset", "start", "end", "last"]
    parts = [_times(trace) for trace in topology.diagonals(frame).itertuples()]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _times(trace: Any) -> pd.DataFrame:
    # What the last look saw is drawn as long as the time between looks.
    steps = np.append(trace.step, trace.step[-1] + np.diff(trace.step[-2:]).sum())
    gap = np.zeros((1, trace.active.shape[1]), dtype=np.int8)
    change = np.diff(np.concatenate([gap, trace.active.astype(np.int8), gap]), axis=0)
    offset, first = np.nonzero(change.T > 0)
    _, after = np.nonzero(change.T < 0)
    last = after == len(trace.step)
    times = {"offset": offset, "start": steps[first], "end": steps[after], "last": last}
    return pd.DataFrame(times).assign(method=trace.method)


def title(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The finding: how many diagonals were ever tried."""
    found = []
    traces = topology.diagonals(frame).drop_duplicates("method").set_index("method")
    for name in methods.arranged(shown["method"]):
        tried = shown[shown["method"] == name]["offset"].nunique()
        every = traces.loc[name, "active"].shape[1]
        found.append(f"{methods.named(name)} tried {tried} of {every}")
    return "Diagonals ever active: " + ", ".join(found)


@themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Methods side by side."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no run kept which of its diagonals were active", theme)
    names = methods.arranged(shown["method"])
    columns = min(3, len(names))
    sheet, axes = layout.sheet(
        -(-len(names) // columns),
        columns,
        panel=(6.1 / columns - 0.1, 3.0),
        title=title(frame, shown),
        note=topology.provenance(frame),
        legend=_legend(theme),
        margins=layout.Margins(between_columns=0.2, between_rows=0.7),
    )
    for panel, name in layout.filled(axes, names):
        _panel(panel, shown[shown["method"] == name], methods.look(name, theme).colour, theme)
        panel.set_title(methods.named(name), fontweight="bold")
        panel.set_xlabel("step")
    axes[0, 0].set_ylabel("offset")
    axes[0, 0].set_ylim(shown["offset"].max() + 1, -1)
    return sheet


def _legend(theme: Theme) -> list[Line2D]:
    colour = methods.look("dynadiag", theme).colour
    return [
        Line2D([], [], color=colour, linewidth=2, label="active at the end"),
        Line2D([], [], color=theme.muted, linewidth=2, label="dropped"),
    ]


def _panel(axes: Axes, shown: pd.DataFrame, colour: str, theme: Theme) -> None:
    for last, ink in ((False, theme.muted), (True, colour)):
        here = shown[shown["last"] == last]
        # One path with gaps: a tenth of the bytes of a line a stroke.
        gap = np.full(len(here), np.nan)
        x = np.stack([here["start"].to_numpy(dtype=float), here["end"].to_numpy(dtype=float), gap])
        y = np.stack([here["offset"].to_numpy(dtype=float)] * 2 + [gap])
        axes.plot(x.T.ravel(), y.T.ravel(), color=ink, linewidth=0.9, solid_capstyle="butt")
    axes.grid(visible=False)
    axes.margins(x=0.01)
