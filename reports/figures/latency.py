"""How the times of a call are spread: one distribution a format, by shape and batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from .. import layout, load, style, tally, words
from ..style import Theme

HEADING = "Latency"
METHOD = (
    "The share of calls (upwards) that took no longer than a time (across), one curve a format: "
    "steep is steady. Drawn from every sample where the run kept them, otherwise through the 5th, "
    "50th and 95th percentile. No outlier is removed."
)
SPLIT = ("regime", "dtype", "direction")
LEVELS = np.array([0.01, *(n / 20 for n in range(1, 20)), 0.99])
COLUMNS = ["case_id", "shape", "batch", "sparsity", "format", "arm"]
MOST_PANELS = 12


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of the seconds a call took, at the headline sparsity."""
    timed = frame[(frame["time"] > 0) & (frame["sparsity"] == tally.headline_sparsity(frame))]
    tables = [_quantiles(arm) for _, arm in timed.iterrows()]
    empty = pd.DataFrame(columns=[*COLUMNS, "level", "seconds", "source"])
    return pd.concat(tables, ignore_index=True) if tables else empty


def _quantiles(arm: pd.Series) -> pd.DataFrame:
    stored = load.samples(arm["folder"], arm["case_id"]).get(arm["arm"])
    if stored is not None and stored.size:
        table = pd.DataFrame({"level": LEVELS, "seconds": np.quantile(stored, LEVELS)})
        table["source"] = "samples"
    else:
        seconds = [arm["p05"], arm["time"], arm["p95"]]
        table = pd.DataFrame({"level": [0.05, 0.5, 0.95], "seconds": seconds}).dropna()
        table["source"] = "percentiles"
    return table.assign(**{name: arm[name] for name in COLUMNS})


def title(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The finding: how far the slow calls of the diagonal layer are from its median."""
    sparsity = words.percent(shown["sparsity"].iloc[0])
    own = shown[shown["format"] == "diagonal"].pivot_table(
        index="case_id", columns="level", values="seconds"
    )
    if tally.is_suspect(frame) or not {0.5, 0.95} <= set(own):
        return f"Distribution of the time of a call at {sparsity} sparsity"
    tail = tally.geomean(own[0.95] / own[0.5])
    return f"At {sparsity} sparsity 95 % of diagonal calls stay below {tail:.2f}× their median"


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """One panel a shape and batch, four abreast."""
    shown = points(frame)
    if shown.empty:
        return layout.message("nothing was timed here", theme)
    order = load.shapes(frame)
    pairs = set(zip(shown["shape"], shown["batch"], strict=True))
    panels = sorted(pairs, key=lambda pair: (order.index(pair[0]), pair[1]))[:MOST_PANELS]
    columns = min(4, len(panels))
    sheet, axes = layout.sheet(
        -(-len(panels) // columns),
        columns,
        panel=(2.1 if columns > 2 else 2.9, 1.45),
        title=title(frame, shown),
        note=tally.provenance(frame),
        legend=[layout.handle(name, theme, marker=False) for name in style.formats(shown)],
        margins=layout.Margins(left=0.6, between_columns=0.32, between_rows=0.62),
        share=False,
    )
    for panel, key in layout.filled(axes, panels):
        shape, batch = key
        here = shown[(shown["shape"] == shape) & (shown["batch"] == batch)]
        _panel(panel, here, theme)
        panel.tick_params(labelleft=panel in axes[:, 0])
        panel.set_title(f"{shape.replace('x', ' → ')} · batch {batch:g}")
    return sheet


def _panel(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    for name in style.formats(shown):
        line, look = shown[shown["format"] == name], style.look(name, theme)
        axes.plot(line["seconds"], line["level"], color=look.colour, linestyle=look.dash)
        middle = line[line["level"] == 0.5]
        axes.plot(middle["seconds"], middle["level"], look.marker, color=look.colour)
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_yticks([0.05, 0.5, 0.95], ["5 %", "50 %", "95 %"])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda seconds, _: words.seconds(seconds))
