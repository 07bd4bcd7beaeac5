"""Speedup over dense by sparsity, one panel a shape and batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import layout, load, style, tally, words
from ..style import Theme

HEADING = "Speedup by sparsity"
METHOD = (
    "Each line is one format; 1× is the dense layer in the same run. The statistic is the median "
    "of the paired ratios, its band the 99 % interval (block bootstrap). Hollow markers are "
    "undecided (AMBIGUOUS). The dotted line is the limit 1/(1−s) of a kernel whose time is "
    "proportional to the weights kept. Letters at the foot: S the format cannot do this case, "
    "W its result was wrong, F it failed. For blocks the fastest of 16, 32 and 64 is drawn. "
    "Shapes and batches measured at a single sparsity are in the heat-map below."
)
SPLIT = ("regime", "dtype", "direction")
COLUMNS = ["shape", "batch", "sparsity", "format", "arm", "speedup", "speedup_lo", "speedup_hi"]


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Sparse formats with a ratio, and those without one for a stated reason."""
    shown = (frame["format"] != "dense") & (
        (frame["speedup"] > 0) | frame["status"].isin(list(style.LETTERS))
    )
    kept = frame.loc[shown, [*COLUMNS, "speedup_verdict", "status", "reason"]]
    return _curves(kept).sort_values(["shape", "batch", "format", "sparsity"])


def _curves(shown: pd.DataFrame) -> pd.DataFrame:
    """Leave out shapes and batches without a curve, unless there is none at all."""
    several = shown.groupby(["shape", "batch"])["sparsity"].transform("nunique") > 1
    lines = shown[several]
    kept = shown["shape"].isin(lines["shape"]) & shown["batch"].isin(lines["batch"])
    return shown[kept] if several.any() else shown


def title(frame: pd.DataFrame) -> str:
    """The finding: the diagonal layer at the headline sparsity."""
    own = frame[frame["format"] == "diagonal"]
    sparsity = tally.headline_sparsity(own)
    found = tally.tally(own[own["sparsity"] == sparsity])
    if tally.is_suspect(frame) or not found.compared:
        return "Speedup over dense by sparsity"
    return (
        f"At {words.percent(sparsity)} sparsity diagonal runs at {words.ratio(found.geomean)} the "
        f"speed of dense (geometric mean of {words.count(found.compared, 'case')})"
    )


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Small multiples: shapes across, batches down, all on one scale."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no sparse format was compared with dense here", theme)
    shapes = [shape for shape in load.shapes(frame) if shape in set(shown["shape"])]
    batches = sorted(shown["batch"].unique())
    sheet, axes = layout.sheet(
        len(batches),
        len(shapes),
        panel=(2.05 if len(shapes) > 2 else 2.9, 1.55),
        title=title(frame),
        note=tally.provenance(frame),
        legend=_legend(shown, theme),
    )
    for row, batch in enumerate(batches):
        for column, shape in enumerate(shapes):
            here = shown[(shown["shape"] == shape) & (shown["batch"] == batch)]
            _panel(axes[row, column], here, theme)
        axes[row, 0].set_ylabel(f"batch {batch:g}")
    for column, shape in enumerate(shapes):
        axes[0, column].set_title(shape.replace("x", " → "))
        axes[-1, column].set_xlabel("sparsity, %")
    _scale(axes[0, 0], shown)
    return sheet


def _legend(shown: pd.DataFrame, theme: Theme) -> list[Line2D]:
    limit = Line2D([], [], color=theme.muted, linestyle=":", label="limit 1/(1−s)")
    hollow = Line2D(
        [], [], color=theme.muted, marker="o", linestyle="none", markerfacecolor=theme.paper
    )
    hollow.set_label("undecided")
    return [*(layout.handle(name, theme) for name in style.formats(shown)), limit, hollow]


def _panel(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    if shown.empty:
        layout.absent(axes, "not in this run", theme)
        return
    axes.axhline(0, color=theme.ink, linewidth=0.9)
    axes.axline((0, 0), slope=1, color=theme.muted, linestyle=":", linewidth=1)
    timed = shown["speedup"] > 0
    for name in style.formats(shown[timed]):
        _line(axes, shown[timed & (shown["format"] == name)], style.look(name, theme), theme)
    absent = style.formats(shown[~timed])
    for place, name in enumerate(absent):
        shift = 0.2 * (place - (len(absent) - 1) / 2)
        _absent(axes, shown[~timed & (shown["format"] == name)], style.look(name, theme), shift)


def _line(axes: Axes, line: pd.DataFrame, look: style.Look, theme: Theme) -> None:
    x, y = layout.density_steps(line["sparsity"]), np.log2(line["speedup"])
    front = 3 if look.short == "diag" else 2
    low, high = np.log2(line["speedup_lo"]), np.log2(line["speedup_hi"])
    axes.fill_between(x, low, high, color=look.colour, alpha=0.22, linewidth=0, zorder=front)
    axes.plot(x, y, color=look.colour, linestyle=look.dash, zorder=front)
    for hollow, fill in ((True, theme.paper), (False, look.colour)):
        here = ((line["speedup_verdict"] == "AMBIGUOUS") == hollow).to_numpy()
        axes.plot(
            x[here], y[here], look.marker, color=look.colour, markerfacecolor=fill, zorder=front
        )


def _absent(axes: Axes, line: pd.DataFrame, look: style.Look, shift: float) -> None:
    """Letters on the lower edge, side by side where several formats have none."""
    for sparsity, status in zip(line["sparsity"], line["status"], strict=True):
        axes.text(
            layout.density_steps(sparsity) + shift,
            0.02,
            style.LETTERS[status],
            color=look.colour,
            fontsize=6,
            fontweight="bold",
            ha="center",
            va="bottom",
            transform=axes.get_xaxis_transform(),
        )


def _scale(axes: Axes, shown: pd.DataFrame) -> None:
    ratios = np.log2(shown["speedup"].dropna().clip(2**-10, 2**10))
    axes.set_ylim(min(ratios.min(), 0) - 1.2 if len(ratios) else -1, max([*ratios, 0]) + 0.6)
    layout.sparsity_axis(axes, list(shown["sparsity"]))
    layout.log2_axis(axes)
