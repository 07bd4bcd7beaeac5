"""Energy saved against time saved, where the machine has a counter."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import layout, style, tally, words
from ..style import Theme

HEADING = "Energy"
METHOD = (
    "Dense joules over the format's joules for one call (upwards) against its speedup (across). "
    "On the dotted line energy falls as time does; above it the format also draws less power. "
    "Filled: gross, its bars 99 % intervals where the counter allows one; hollow: net of an idle "
    "device. Energy of a card is what NVML shows: informative, not wall power."
)
SPLIT = ("regime", "dtype", "direction")
COLUMNS = ["case_id", "direction", "shape", "batch", "sparsity", "format", "arm", "speedup"]
MEASURED = ("energy", "energy_net", "power", "saving", "saving_lo", "saving_hi", "saving_net")


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Ratio of dense energy to the format's, case by case."""
    dense = frame.loc[frame["format"] == "dense"].drop_duplicates("case_id").set_index("case_id")
    known = frame[(frame["energy"] > 0) & (frame["speedup"] > 0) & (frame["format"] != "dense")]
    base = known["case_id"].map(dense["energy"])
    saving = base / known["energy"]
    table = known.assign(
        saving=saving,
        saving_lo=base / known["energy_hi"],
        saving_hi=base / known["energy_lo"],
        saving_net=known["case_id"].map(dense["energy_net"]) / known["energy_net"],
    )
    return table.loc[saving > 0, [*COLUMNS, *MEASURED]]


def title(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The finding: the diagonal layer's energy at the headline sparsity."""
    own = shown[shown["format"] == "diagonal"]
    if tally.is_suspect(frame) or own.empty:
        return "Energy against time, both relative to dense"
    sparsity = tally.headline_sparsity(own)
    saving = tally.geomean(own.loc[own["sparsity"] == sparsity, "saving"])
    cost = words.percent(round(1 / saving, 2))
    return f"At {words.percent(sparsity)} sparsity a diagonal call takes {cost} of the dense energy"


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """One panel a direction, two abreast."""
    shown = points(frame)
    if shown.empty:
        return layout.message("energy was not measured on this machine", theme)
    same = Line2D([], [], color=theme.muted, linestyle=":", label="same power as dense")
    hollow = Line2D([], [], color=theme.muted, marker="o", linestyle="none", label="net of idle")
    hollow.set_markerfacecolor(theme.paper)
    handles = [layout.handle(name, theme, line=False) for name in style.formats(shown)]
    sheet, axes = layout.sheet(
        1,
        1,
        panel=(6.0, 3.6),
        title=title(frame, shown),
        note=tally.provenance(frame) + (f" · {words.NVML}" if frame["card"].any() else ""),
        legend=[*handles, same, hollow],
    )
    panel = axes[0, 0]
    _panel(panel, shown, theme)
    panel.set(xlabel="speedup over dense", ylabel="energy: dense / format")
    known = shown[["speedup", "saving", "saving_net"]]
    both = np.log2(known[known > 0].to_numpy())
    limits = (np.nanmin(both) - 0.5, np.nanmax(both) + 0.5)
    panel.set(xlim=limits, ylim=limits)
    layout.log2_axis(panel, "x")
    layout.log2_axis(panel, "y")
    return sheet


def _panel(axes: Axes, shown: pd.DataFrame, theme: Theme) -> None:
    axes.axline((0, 0), slope=1, color=theme.muted, linestyle=":")
    for name in reversed(style.formats(shown)):
        case, look = shown[shown["format"] == name], style.look(name, theme)
        x, y = np.log2(case["speedup"]), np.log2(case["saving"])
        low, high = y - np.log2(case["saving_lo"]), np.log2(case["saving_hi"]) - y
        bars = np.array([low.fillna(0), high.fillna(0)])
        axes.errorbar(x, y, yerr=bars, fmt=look.marker, color=look.colour, alpha=0.7, linewidth=0.7)
        net = np.log2(case["saving_net"].where(case["saving_net"] > 0))
        axes.plot(x, net, look.marker, color=look.colour, markerfacecolor=theme.paper)
