"""Useful arithmetic rate against arithmetic intensity, below ceilings measured on the machine."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import layout, style, tally, words
from ..style import Theme

HEADING = "Roofline"
METHOD = (
    "Useful work is 2 FLOP a kept weight and batch row (three times that for a step), whatever a "
    "format computes in fact. Bytes model: weight with its indices, input and output, each moved "
    "once (three times for a step). Ceilings were measured by the run's self-checks: the slope is "
    "the bandwidth of a copy, the flat part a dense product of the same dtype. A working set that "
    "stays in cache can lie above the slope."
)
SPLIT = ("regime", "dtype", "direction")
ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
PASSES = {"step": 3}
COLUMNS = ["direction", "batch", "shape", "sparsity", "format", "arm", "intensity", "rate"]


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """FLOP per byte and useful FLOP/s of every timed case."""
    timed = frame[(frame["time"] > 0) & (frame["weight_bytes"] > 0)]
    passes = timed["direction"].map(PASSES).fillna(1)
    whole = timed["in_features"] * timed["out_features"]
    flop = 2 * timed["nnz"].fillna(whole) * timed["batch"] * passes
    vectors = timed["batch"] * (timed["in_features"] + timed["out_features"])
    item = timed["dtype"].map(ITEM_BYTES)
    moved = passes * (timed["weight_bytes"] + vectors * item)
    table = timed.assign(intensity=flop / moved, rate=flop / timed["time"])
    return table.loc[table["intensity"] > 0, [*COLUMNS, "bandwidth", "ceiling"]]


def title(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The finding: the best useful rate of the diagonal layer."""
    own = shown[shown["format"] == "diagonal"]
    if tally.is_suspect(frame) or own.empty:
        return "Useful arithmetic rate against the machine's measured ceilings"
    best = own.loc[own["rate"].idxmax()]
    text = f"Diagonal reaches up to {best['rate'] / 1e9:.0f} useful GFLOP/s"
    if best["ceiling"] > 0:
        text += f", {words.percent(round(best['rate'] / best['ceiling'], 2))} of the dense ceiling"
    return text


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """One panel a direction, two abreast."""
    shown = points(frame)
    if shown.empty:
        return layout.message("nothing was timed here", theme)
    sheet, axes = layout.sheet(
        1,
        1,
        panel=(6.0, 3.2),
        title=title(frame, shown),
        note=tally.provenance(frame),
        legend=[
            *(layout.handle(name, theme, line=False) for name in style.formats(shown)),
            Line2D([], [], color=theme.ink, linewidth=1, label="measured ceiling"),
        ],
    )
    panel = axes[0, 0]
    _panel(panel, shown, theme)
    panel.set(xlabel="useful FLOP per byte", ylabel="useful GFLOP/s")
    _scales(panel, shown)
    return sheet


def _panel(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    for name in reversed(style.formats(shown)):
        case, look = shown[shown["format"] == name], style.look(name, theme)
        axes.plot(
            case["intensity"],
            case["rate"] / 1e9,
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markeredgewidth=0,
            alpha=0.7,
        )
    _ceilings(axes, shown, theme)


def _ceilings(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    bandwidth, ceiling = shown["bandwidth"].iloc[0], shown["ceiling"].iloc[0]
    if not (bandwidth > 0 and ceiling > 0):
        return
    x = np.geomspace(1e-3, 1e5, 200)
    axes.plot(x, np.minimum(bandwidth * x, ceiling) / 1e9, color=theme.ink, linewidth=1)
    text = f"{ceiling / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s"
    right = axes.get_yaxis_transform()
    axes.text(0.99, ceiling / 1e9 * 1.08, text, transform=right, ha="right", fontsize=7)


def _scales(axes: Axes, shown: pd.DataFrame) -> None:
    axes.set_xscale("log", base=10)
    axes.set_yscale("log", base=10)
    axes.set_xlim(shown["intensity"].min() / 1.6, shown["intensity"].max() * 1.6)
    top = np.nanmax([shown["rate"].max(), shown["ceiling"].max()])
    axes.set_ylim(shown["rate"].min() / 2e9, top * 2.2e-9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
