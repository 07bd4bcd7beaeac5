"""How much of a topology outlives its next update, all methods in one panel a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import layout, methods, topology, words
from ..style import Theme, themed

HEADING = "Overlap between updates"
METHOD = (
    "Left: of what was active at one look at the layer, the share still active at the next. "
    "Right: the share of what is active at the end that already was. A topology drawn anew each "
    "time would lie at one minus the sparsity of the layer. One layer, one seed; there is a look "
    "after every update."
)
SPLIT = ("task",)
PANELS = {"next": "still active at the next look", "end": "of the last topology, already active"}


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Both shares at every look of every method."""
    columns = ["method", "step", *PANELS]
    parts = [_shares(trace) for trace in frame.itertuples() if len(trace.step) > 1]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _shares(trace: Any) -> pd.DataFrame:
    active = trace.active.reshape(len(trace.step), -1)
    before, after, last = active[:-1], active[1:], active[-1]
    both = (before & after).sum(axis=1) / np.maximum(before.sum(axis=1), 1)
    there = (before & last).sum(axis=1) / max(int(last.sum()), 1)
    shares = {"step": trace.step[1:], "next": both, "end": there}
    return pd.DataFrame(shares).assign(method=trace.method)


def title(shown: pd.DataFrame) -> str:
    """The finding: the share that outlives an update, on average, by method."""
    means = shown.groupby("method")["next"].mean()
    names = [name for name in methods.arranged(shown["method"]) if name in methods.FRONT]
    found = [
        f"{methods.named(name)} {words.percent(round(means[name], 3))}"
        for name in names or methods.arranged(shown["method"])
    ]
    return f"Active units that outlive an update: {words.listing(found)}"


@themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Two panels: the next look, and the end."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no topology was looked at twice", theme)
    names = methods.arranged(shown["method"])
    sheet, axes = layout.sheet(
        1,
        2,
        panel=(2.9, 2.2),
        title=title(shown),
        note=topology.provenance(frame),
        legend=[methods.handle(name, theme) for name in names],
        margins=layout.Margins(between_columns=0.3),
    )
    for panel, (key, text) in zip(axes[0], PANELS.items(), strict=True):
        for name in names:
            line, look = shown[shown["method"] == name], methods.look(name, theme)
            front = name in methods.FRONT
            panel.plot(
                line["step"],
                line[key],
                color=look.colour,
                linestyle=look.dash,
                linewidth=1.4 if front else 0.8,
                marker=look.marker,
                markevery=max(1, len(line) // 6),
                markerfacecolor=look.colour if front else theme.paper,
                zorder=3 if front else 2,
            )
        panel.set_title(text)
        panel.set_xlabel("step")
    axes[0, 0].set_ylim(-0.03, 1.05)
    axes[0, 0].yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    return sheet
