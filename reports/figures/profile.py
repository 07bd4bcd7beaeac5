"""Performance profile (Dolan and Moré, 2002): how often a format is near the best."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import layout, style, tally, words
from ..style import Theme

HEADING = "Performance profile"
METHOD = (
    "For each format, the share of cases (upwards) that it solves within a factor (across) of the "
    "fastest format of that case (Dolan and Moré, doi:10.1007/s101070100263). The left edge is how "
    "often it is the fastest; a case it cannot do never counts. All shapes, batches, directions "
    "and dtypes of a regime together: the grid decides how much each weighs."
)
SPLIT = ("regime",)
WIDEST = 16.0
NEAR = 1.1


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Steps of each format's profile, over all cases and at each sparsity."""
    if not (frame["time"] > 0).any():
        return pd.DataFrame(columns=["panel", "format", "factor", "share", "cases"])
    panels = [("all cases", frame)]
    panels += [(f"{words.percent(s)} sparsity", part) for s, part in frame.groupby("sparsity")]
    return pd.concat([_profile(name, part) for name, part in panels], ignore_index=True)


def _profile(panel: str, frame: pd.DataFrame) -> pd.DataFrame:
    times = frame.pivot_table(index="case_id", columns="format", values="time", aggfunc="min")
    factors = times.div(times.min(axis=1), axis=0)
    steps = []
    for name in factors:
        known = np.sort(factors[name].dropna().to_numpy())
        share = np.arange(1, known.size + 1) / len(factors)
        steps.append(pd.DataFrame({"format": name, "factor": known, "share": share}))
    table = pd.concat(steps, ignore_index=True) if steps else pd.DataFrame()
    return table.assign(panel=panel, cases=len(factors))


def title(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The finding: how often the diagonal layer is near the best."""
    every = shown[shown["panel"] == "all cases"]
    own = every[(every["format"] == "diagonal") & (every["factor"] <= NEAR)]
    if tally.is_suspect(frame) or "diagonal" not in set(every["format"]):
        return "How often each format is near the fastest"
    share = own["share"].max() if len(own) else 0.0
    total = words.count(int(every["cases"].iloc[0]), "case")
    return f"Diagonal is within {NEAR:g}× of the fastest format in {100 * share:.0f} % of {total}"


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """One panel for all cases and one a sparsity, four abreast."""
    shown = points(frame)
    if shown.empty:
        return layout.message("nothing was timed here", theme)
    panels = list(dict.fromkeys(shown["panel"]))
    columns = min(4, len(panels))
    sheet, axes = layout.sheet(
        -(-len(panels) // columns),
        columns,
        panel=(2.1, 1.7),
        title=title(frame, shown),
        note=tally.provenance(frame),
        legend=[layout.handle(name, theme, marker=False) for name in style.formats(shown)],
        margins=layout.Margins(left=0.6, between_columns=0.3, between_rows=0.62),
    )
    for panel, key in layout.filled(axes, panels):
        here = shown[shown["panel"] == key]
        for name in style.formats(here):
            _steps(panel, here[here["format"] == name], theme)
        panel.set_title(f"{key} ({here['cases'].iloc[0]})")
        panel.tick_params(labelbottom=True)
    axes[0, 0].set_xlim(0, np.log2(WIDEST))
    axes[0, 0].set_ylim(0, 1.03)
    axes[0, 0].yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    layout.log2_axis(axes[0, 0], "x")
    return sheet


def _steps(axes: Axes, line: pd.DataFrame, theme: Theme) -> None:
    look = style.look(line["format"].iloc[0], theme)
    x = np.concatenate([[0.0], np.log2(line["factor"]), [np.log2(WIDEST) + 1]])
    y = np.concatenate([[0.0], line["share"], line["share"].tail(1)])
    axes.step(x, y, where="post", color=look.colour, linestyle=look.dash)
