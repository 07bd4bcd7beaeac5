"""Accuracy against measured speed: what a method gives for what its storage format costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import layout, load, methods, scales, tally, trained, words
from ..style import Theme, themed

HEADING = "Accuracy against speed"
METHOD = (
    "Across: speedup over dense of the forward pass of the format that stores the frozen model, "
    "the geometric mean over the layers that the timing runs of this report measured at the same "
    "sparsity: of single layers, not of these small models. Upwards: the mean over seeds with its "
    "95 % t-interval. Numbers are sparsities in percent. The stairs join what no other point beats "
    "in both; beaten points are pale. Methods of one format share its speed."
)
SPLIT = ("timed_on", "regime", "dtype")
SPEED = [*SPLIT, "format", "sparsity"]
COLUMNS = ["task", "metric", "method", "format", "sparsity", "value", "value_lo", "value_hi"]


def speeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean speedup of the forward pass by device, regime, dtype, format and sparsity."""
    usable = (frame["direction"] == "forward") & (frame["speedup"] > 0) & ~frame["suspect"]
    timed = load.representatives(frame[usable]).rename(columns={"device": "timed_on"})
    grouped = timed.groupby(SPEED)["speedup"]
    return grouped.agg(speed=tally.geomean, layers="size").reset_index()


def joined(frame: pd.DataFrame, speed: pd.DataFrame) -> pd.DataFrame:
    """Results with the speed of their format at their sparsity; dense is 1 by definition."""
    places = speed[[*SPLIT]].drop_duplicates()
    dense = trained.done(frame)
    dense = dense[dense["method"] == "dense"].drop_duplicates("task").merge(places, how="cross")
    sparse = frame[frame["method"] != "dense"].merge(speed, on=["format", "sparsity"])
    return pd.concat([sparse, dense.assign(speed=1.0, layers=0, sparsity=0.0)])


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Every method at every sparsity with a known speed, and whether another beats it."""
    known = trained.done(frame)
    known = known[known["speed"] > 0]
    if set(known["method"]) <= {"dense"}:
        return known.head(0)[[*COLUMNS, "speed", "layers"]].assign(beaten=[])
    parts = [part.assign(beaten=_beaten(part)) for _, part in known.groupby("task", sort=False)]
    return pd.concat(parts)[[*COLUMNS, "speed", "layers", "beaten"]]


def _beaten(frame: pd.DataFrame) -> list[bool]:
    """Whether another point is at least as good in both and better in one."""
    value = (trained.score(frame).sign * frame["value"]).to_numpy()
    speed = frame["speed"].to_numpy()
    good = (value[:, None] >= value) & (speed[:, None] >= speed)
    strict = (value[:, None] > value) | (speed[:, None] > speed)
    return [bool(beaten) for beaten in (good & strict).any(axis=0)]


def title(shown: pd.DataFrame) -> str:
    """The finding: whose points no other beats."""
    kept = shown[~shown["beaten"] & (shown["method"] != "dense")]
    counts = kept["method"].value_counts()
    found = [f"{methods.named(name)} in {count}" for name, count in counts.items()]
    total = words.count(len(kept), "sparse point")
    return f"Who is not beaten in accuracy and speed together ({total}): {words.listing(found)}"


@themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Tasks side by side, two abreast."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no speed is known for these formats and sparsities", theme)
    tasks = trained.tasks(shown)
    columns = min(2, len(tasks))
    sheet, axes = layout.sheet(
        -(-len(tasks) // columns),
        columns,
        panel=(3.15, 2.3) if columns > 1 else (6.0, 3.0),
        title=title(shown),
        note=_note(frame),
        legend=_legend(shown, theme),
        margins=layout.Margins(between_columns=0.6, between_rows=0.68),
        share=False,
    )
    for panel, task in layout.filled(axes, tasks):
        _panel(panel, shown[shown["task"] == task], theme)
        panel.set_title(task, fontweight="bold")
    return sheet


def _note(frame: pd.DataFrame) -> str:
    kinds = [words.listing(sorted(set(frame[name].astype(str)))) for name in SPLIT]
    most = int(frame["layers"].max())
    seeds = trained.seeds(frame)
    return " · ".join([f"speed: {kinds[0]}", *kinds[1:], f"up to {most} layers", seeds])


def _legend(shown: pd.DataFrame, theme: Theme) -> list[Line2D]:
    stairs = Line2D([], [], color=theme.ink, linewidth=0.9, label="not beaten")
    names = methods.arranged(shown["method"])
    return [*(methods.handle(name, theme, line=False) for name in names), stairs]


def _panel(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    x = np.log2(shown["speed"].to_numpy())
    y, low, high = scales.heights(shown)
    axes.axvline(0, color=theme.muted, linewidth=0.8, linestyle=":")
    for place, case in enumerate(shown.itertuples()):
        look, front = methods.look(case.method, theme), case.method in methods.FRONT
        faded = 0.35 if case.beaten else 1.0
        ends = (low[place], high[place])
        axes.vlines(x[place], *ends, color=look.colour, linewidth=0.8, alpha=faded)
        axes.plot(
            x[place],
            y[place],
            look.marker,
            color=look.colour,
            markerfacecolor=look.colour if front else theme.paper,
            markersize=5 if front else 3.6,
            alpha=faded,
            zorder=3 if front else 2,
        )
    _stairs(axes, x, y, shown, theme)
    axes.margins(x=0.08, y=0.08)
    layout.log2_axis(axes, "x")
    axes.set_xlabel("speedup of a layer over dense")
    scales.finish(axes, shown)


def _stairs(
    axes: Axes,
    x: np.ndarray[tuple[int], np.dtype[np.float64]],
    y: np.ndarray[tuple[int], np.dtype[np.float64]],
    shown: pd.DataFrame,
    theme: Theme,
) -> None:
    kept = ~shown["beaten"].to_numpy()
    order = np.argsort(x[kept], kind="stable")
    axes.step(x[kept][order], y[kept][order], where="pre", color=theme.ink, linewidth=0.9, zorder=1)
    for case, left, height in zip(shown[kept].itertuples(), x[kept], y[kept], strict=True):
        text = f"{100 * case.sparsity:.3g}" if case.sparsity else "dense"
        axes.annotate(
            text,
            (left, height),
            xytext=(4, 3 if trained.score(shown).sign > 0 else -8),
            textcoords="offset points",
            fontsize=6,
            color=theme.ink,
        )
