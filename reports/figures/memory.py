"""Bytes of the weights and peak bytes of a call, by sparsity, one column a shape."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .. import layout, load, style, tally, words
from ..style import Theme

HEADING = "Memory"
METHOD = (
    "Top: bytes that store the weight (values, indices and metadata; computed). Below: most bytes "
    "allocated at once during one call (measured), at the largest batch of each shape. The dotted "
    "line is the dense weight times (1−s)."
)
SPLIT = ("regime", "dtype", "direction")
PANELS = ("weights", "peak")
COLUMNS = ["shape", "batch", "sparsity", "format", "arm"]


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Weight bytes once a shape and sparsity, peak bytes at each shape's largest batch."""
    weights = frame.assign(panel="weights", bytes=frame["weight_bytes"])
    weights = weights.drop_duplicates(["shape", "sparsity", "format"])
    largest = frame.groupby("shape")["batch"].transform("max")
    peaks = frame[frame["batch"] == largest]
    peaks = peaks.assign(panel="peak", bytes=peaks["peak_bytes"])
    table = pd.concat([weights, peaks])[["panel", *COLUMNS, "bytes"]]
    table = table[table["bytes"] > 0]
    several = table.groupby("shape")["sparsity"].transform("nunique") > 1
    return table[several] if several.any() else table


def title(frame: pd.DataFrame) -> str:
    """The finding: the diagonal weight's size against the dense one."""
    sparsity = tally.headline_sparsity(frame)
    here = frame[frame["sparsity"] == sparsity]
    sizes = here.pivot_table(index="case_id", columns="format", values="weight_bytes")
    if not {"dense", "diagonal"} <= set(sizes):
        return "Bytes of the weights and peak bytes of a call"
    share = tally.geomean(sizes["diagonal"] / sizes["dense"])
    size = words.percent(round(share, 3))
    return f"At {words.percent(sparsity)} sparsity diagonal weights take {size} of the dense bytes"


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """Weights above, peaks of the directions below, shapes across."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no bytes were recorded here", theme)
    shapes = [shape for shape in load.shapes(frame) if shape in set(shown["shape"])]
    panels = [panel for panel in PANELS if panel in set(shown["panel"])]
    sheet, axes = layout.sheet(
        len(panels),
        len(shapes),
        panel=(2.05 if len(shapes) > 2 else 2.9, 1.5),
        title=title(frame),
        note=tally.provenance(frame),
        legend=[layout.handle(name, theme) for name in style.formats(shown)],
        margins=layout.Margins(left=0.85, between_rows=0.3),
        share="row",
    )
    for row, panel in enumerate(panels):
        for column, shape in enumerate(shapes):
            here = shown[(shown["panel"] == panel) & (shown["shape"] == shape)]
            _panel(axes[row, column], here, theme)
        axes[row, 0].set_ylabel(panel)
        _bytes_axis(axes[row, 0])
    for column, shape in enumerate(shapes):
        axes[0, column].set_title(shape.replace("x", " → "))
        layout.sparsity_axis(axes[-1, column], list(shown["sparsity"]))
        axes[-1, column].set_xlabel("sparsity, %")
    return sheet


def _panel(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    if shown.empty:
        layout.absent(axes, "not in this run", theme)
        return
    for name in style.formats(shown):
        line, look = shown[shown["format"] == name].sort_values("sparsity"), style.look(name, theme)
        x = layout.density_steps(line["sparsity"])
        axes.plot(x, line["bytes"], marker=look.marker, color=look.colour, linestyle=look.dash)
    dense = shown[shown["format"] == "dense"].sort_values("sparsity")
    if shown["panel"].iloc[0] == "peak":
        axes.set_title(f"batch {shown['batch'].iloc[0]:g}", fontsize=style.NOTE_POINTS, pad=2)
    elif len(dense):
        x, limit = layout.density_steps(dense["sparsity"]), dense["bytes"] * (1 - dense["sparsity"])
        axes.plot(x, limit, color=theme.muted, linestyle=":", linewidth=1)


def _bytes_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: words.size(count)))
