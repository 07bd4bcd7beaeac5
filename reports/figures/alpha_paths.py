"""How the importance of each diagonal moved, one panel a method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .. import layout, methods, topology, words
from ..style import Theme, themed

HEADING = "Paths of alpha"
METHOD = (
    "The importance alpha of the candidate diagonals of one layer over training, one seed. "
    "Coloured: selected at the end; grey lines: selected for a while and dropped (those held "
    "longest); shaded: the range of all others. Where a method exchanges diagonals, the one "
    "that comes in takes the alpha of the one it replaces, so that both lines jump. Scales differ."
)
SPLIT = ("task",)
KEPT, DROPPED, OTHERS = "selected at the end", "dropped", "never selected"
MOST_STEPS, MOST_DROPPED = 60, 24
# Their alpha is not learned: it only records which diagonals are active.
UNLEARNED = ("diag_heuristic",)


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Paths of the diagonals selected at some time, and the ends of the others' range."""
    known = _learned(frame)
    parts = [part for trace in known.itertuples() for part in _paths(trace)]
    columns = ["method", "kind", "diagonal", "step", "alpha"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _learned(frame: pd.DataFrame) -> pd.DataFrame:
    traces = topology.diagonals(frame)
    return traces[traces["alpha"].notna() & ~traces["method"].isin(UNLEARNED)]


def _paths(trace: Any) -> Iterator[pd.DataFrame]:
    looks = np.unique(np.linspace(0, len(trace.step) - 1, MOST_STEPS).astype(int))
    step, alpha = trace.step[looks], trace.alpha[looks]
    held, kept = trace.active.sum(axis=0), trace.active[-1]
    dropped = np.flatnonzero((held > 0) & ~kept)
    longest = dropped[np.argsort(-held[dropped], kind="stable")][:MOST_DROPPED]
    for kind, chosen in ((DROPPED, longest), (KEPT, np.flatnonzero(kept))):
        for diagonal in chosen:
            path = {"step": step, "alpha": alpha[:, diagonal]}
            yield pd.DataFrame(path).assign(method=trace.method, kind=kind, diagonal=str(diagonal))
    others = alpha[:, held == 0]
    if others.shape[1]:
        for name, edge in (("least", others.min(axis=1)), ("most", others.max(axis=1))):
            path = {"step": step, "alpha": edge}
            yield pd.DataFrame(path).assign(method=trace.method, kind=OTHERS, diagonal=name)


def title(frame: pd.DataFrame) -> str:
    """The finding: how many of the first diagonals are there at the end."""
    traces = _learned(frame)
    trace = traces[traces["method"] == methods.arranged(traces["method"])[0]].iloc[0]
    first, last = trace["active"][0], trace["active"][-1]
    stayed = int((first & last).sum())
    return (
        f"{methods.named(trace['method'])} ends with {stayed} of the "
        f"{words.count(int(first.sum()), 'diagonal')} of the first look"
    )


@themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Methods side by side."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no run kept the importance of its diagonals", theme)
    names = methods.arranged(shown["method"])
    columns = min(3, len(names))
    sheet, axes = layout.sheet(
        -(-len(names) // columns),
        columns,
        panel=(6.0 / columns - 0.2, 2.4),
        title=title(frame),
        note=topology.provenance(frame),
        legend=_legend(theme),
        margins=layout.Margins(between_columns=0.55, between_rows=0.7),
        share=False,
    )
    for panel, name in layout.filled(axes, names):
        _panel(panel, shown[shown["method"] == name], methods.look(name, theme).colour, theme)
        panel.set_title(methods.named(name), fontweight="bold")
        panel.set_xlabel("step")
    axes[0, 0].set_ylabel("alpha")
    return sheet


def _legend(theme: Theme) -> list[Any]:
    return [
        Line2D([], [], color=methods.look("dynadiag", theme).colour, label=KEPT),
        Line2D([], [], color=theme.muted, linewidth=0.8, label=DROPPED),
        Patch(facecolor=theme.blank, label=OTHERS),
    ]


def _panel(axes: Axes, shown: pd.DataFrame, colour: str, theme: Theme) -> None:
    others = shown[shown["kind"] == OTHERS].pivot_table("alpha", "step", "diagonal")
    if len(others):
        axes.fill_between(others.index, others["least"], others["most"], color=theme.blank)
    for kind, ink, width in ((DROPPED, theme.muted, 0.5), (KEPT, colour, 0.9)):
        paths = shown[shown["kind"] == kind].pivot_table("alpha", "step", "diagonal")
        axes.plot(paths.index, paths.to_numpy(), color=ink, linewidth=width, alpha=0.8)
    axes.margins(x=0.01)
