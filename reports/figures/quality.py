"""Accuracy or loss by sparsity, one panel a task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import layout, methods, scales, tally, trained, words
from ..style import Theme, themed

HEADING = "Accuracy by sparsity"
METHOD = (
    "Each line is one method, its mean over seeds on the test split after freezing; bands, and "
    "bars of the methods in the background, are t-intervals over seeds at 95 %. The grey band is "
    "the dense model. Accuracy is on a scale of the error (equal steps halve it), so that the top "
    "can be read; of loss, less is better. Sparsity is of the converted layers."
)
SPLIT = ()
COLUMNS = ["task", "metric", "sparsity", "method", "value", "value_lo", "value_hi", "value_n"]
DODGE = 0.055


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean of every method that was trained, with its interval."""
    kept = trained.done(frame)[COLUMNS]
    order = kept["method"].map({name: i for i, name in enumerate(methods.ORDER)})
    return kept.assign(order=order).sort_values(["task", "order", "sparsity"]).drop(columns="order")


def title(frame: pd.DataFrame) -> str:
    """The finding: the best sparse method of each task at the headline sparsity."""
    known = trained.done(frame)
    sparse = known[known["method"] != "dense"]
    if sparse.empty:
        return "Accuracy of the dense models"
    sparsity = tally.headline_sparsity(sparse)
    here = sparse[sparse["sparsity"] == sparsity]
    found: dict[str, list[str]] = {}
    for task in trained.tasks(here):
        top = best(here[here["task"] == task])
        value = trained.SCORES[top["metric"]].value(top["value"])
        found.setdefault(methods.named(top["method"]), []).append(f"{task} ({value})")
    texts = [f"{name} on {words.listing(places)}" for name, places in found.items()]
    return f"Best sparse methods at {words.percent(sparsity)}: {'; '.join(texts)}"


def best(frame: pd.DataFrame) -> pd.Series:
    """The row of one task and sparsity with the best mean."""
    signed = frame["value"] * trained.score(frame).sign
    return frame.loc[signed.idxmax()]


@themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Tasks side by side, two abreast, each on its own scale."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no method was trained to its end here", theme)
    tasks = trained.tasks(frame[frame["task"].isin(shown["task"])])
    columns = min(2, len(tasks))
    sheet, axes = layout.sheet(
        -(-len(tasks) // columns),
        columns,
        panel=(3.15, 2.25) if columns > 1 else (6.0, 3.0),
        title=title(frame),
        note=scales.provenance(frame),
        legend=[methods.handle(name, theme) for name in methods.arranged(shown["method"])],
        margins=layout.Margins(between_columns=0.6, between_rows=0.68),
        share=False,
    )
    for panel, task in layout.filled(axes, tasks):
        _panel(panel, shown[shown["task"] == task], theme)
        panel.set_title(task, fontweight="bold")
    return sheet


def _panel(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    names = methods.sparse(shown)
    behind = [name for name in names if name not in methods.FRONT]
    for name in names:
        line = shown[shown["method"] == name].sort_values("sparsity")
        place = behind.index(name) - (len(behind) - 1) / 2 if name in behind else 0.0
        _line(axes, line, name, theme, DODGE * place)
    _dense(axes, shown[shown["method"] == "dense"], theme)
    layout.sparsity_axis(axes, list(shown["sparsity"]))
    axes.set_xlabel("sparsity, %")
    scales.finish(axes, shown)


def _line(axes: Axes, line: pd.DataFrame, name: str, theme: Theme, shift: float) -> None:
    look, front = methods.look(name, theme), name in methods.FRONT
    x = layout.density_steps(line["sparsity"]).to_numpy()
    y, low, high = scales.heights(line)
    style = {"color": look.colour, "linestyle": look.dash, "zorder": 3 if front else 2}
    if front:
        axes.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0, zorder=1.5)
        axes.plot(x, y, marker=look.marker, linewidth=1.6, **style)
        return
    x = x + shift
    axes.vlines(x, low, high, color=look.colour, linewidth=0.7, alpha=0.8, zorder=1.8)
    axes.plot(
        x,
        y,
        marker=look.marker,
        markersize=3.6,
        markerfacecolor=theme.paper,
        linewidth=0.8,
        alpha=0.85,
        **style,
    )


def _dense(axes: Axes, dense: pd.DataFrame, theme: Theme) -> None:
    if dense.empty:
        return
    y, low, high = (float(end[0]) for end in scales.heights(dense))
    axes.axhline(y, color=theme.ink, linewidth=0.9, linestyle=methods.look("dense", theme).dash)
    if np.isfinite(high - low):
        axes.axhspan(low, high, color=theme.ink, alpha=0.13, linewidth=0, zorder=1)
