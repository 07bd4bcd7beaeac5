"""Where each format starts to win: sparsity against shape and batch, one panel a format."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from .. import cells, layout, style, tally, words
from ..style import Theme

HEADING = "Break-even"
METHOD = (
    "Each cell is the speedup over dense of one format in one case: blue is faster, red slower, "
    "pale is even; hatched is undecided (AMBIGUOUS); grey with a letter was not timed (S the "
    "format cannot do it, W wrong result, F failed). The upright stroke marks the break-even: left "
    "of it the format does not win, right of it every measured sparsity is FASTER. "
    "Colours saturate at 8× and 1/8×."
)
SPLIT = ("regime", "dtype", "direction")
COLUMNS = [
    *("case_id", "shape", "batch", "sparsity", "format", "arm"),
    *("speedup", "speedup_lo", "speedup_hi", "speedup_verdict"),
    *("status", "reason", "suspect"),
]
SATURATED = 3.0


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Every sparse case with a ratio or with a reason for having none."""
    shown = frame["format"] != "dense"
    shown &= (frame["speedup"] > 0) | frame["status"].isin(list(style.LETTERS))
    kept = frame.loc[shown, COLUMNS]
    return kept.sort_values(["format", "shape", "batch", "sparsity"])


def title(frame: pd.DataFrame) -> str:
    """The finding: the range of the diagonal layer's break-even sparsities."""
    own = frame[(frame["format"] == "diagonal") & (frame["speedup"] > 0)]
    if tally.is_suspect(frame) or own.empty:
        return "Speedup over dense, case by case"
    found = [(tally.break_even(case), case) for _, case in own.groupby(["shape", "batch"])]
    ahead = sum(place is not None and not _bracketed(place, case) for place, case in found)
    never = sum(place is None for place, _ in found)
    crossed = [100 * place for place, case in found if place and _bracketed(place, case)]
    parts = [f"at {words.span(crossed, '{:.0f}')} % sparsity in {len(crossed)}"] if crossed else []
    parts += [f"at or below the lowest sparsity measured in {ahead}"] if ahead else []
    parts += [f"at none in {never}"] if never else []
    return f"Diagonal overtakes dense {', '.join(parts)} of {len(found)} shape-and-batch pairs"


def _bracketed(place: float, cases: pd.DataFrame) -> bool:
    """Whether a sparsity was measured below the break-even, where the format did not win."""
    return bool(cases["sparsity"].min() < place)


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """One heat-map a format, three abreast."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no sparse format was compared with dense here", theme)
    names = style.formats(shown)
    grid = cells.Grid.of(frame[frame["case_id"].isin(shown["case_id"])])
    columns = min(len(names), 3)
    sheet, axes = layout.sheet(
        -(-len(names) // columns),
        columns,
        panel=grid.inches(0.42),
        title=title(frame),
        note=tally.provenance(frame) + " · rows: shape · batch, columns: sparsity",
        legend=_legend(theme),
        margins=layout.Margins(left=1.45, between_columns=0.2, between_rows=0.6, foot=0.35),
    )
    for panel, name in layout.filled(axes, names):
        _panel(panel, shown[shown["format"] == name], grid, theme)
        panel.set_title(style.named(name), fontweight="bold")
    return sheet


def _legend(theme: Theme) -> list[Patch]:
    slower, even, faster = theme.diverging
    return [
        Patch(facecolor=faster, label="faster"),
        Patch(facecolor=even, edgecolor=theme.grid, label="even"),
        Patch(facecolor=slower, label="slower"),
        Patch(facecolor=even, edgecolor=theme.muted, hatch=cells.HATCH, label="undecided"),
        Patch(facecolor=theme.blank, label="not timed"),
        Patch(facecolor=theme.ink, label="break-even"),
    ]


def _panel(axes: Axes, shown: pd.DataFrame, grid: cells.Grid, theme: Theme) -> None:
    scale, colours = Normalize(-SATURATED, SATURATED, clip=True), theme.colormap()
    grid.frame(axes)
    for case in shown.itertuples():
        known = case.speedup > 0
        colour = colours(scale(np.log2(case.speedup))) if known else theme.blank
        text = words.ratio(case.speedup).rstrip("×") if known else style.LETTERS[case.status]
        grid.cell(
            axes, case, colour, text, theme, undecided=known and case.speedup_verdict == "AMBIGUOUS"
        )
    if tally.is_suspect(shown):
        return
    for (shape, batch), cases in shown.groupby(["shape", "batch"]):
        start = tally.break_even(cases)
        if start is not None and _bracketed(start, cases[cases["speedup"] > 0]):
            left = int(np.searchsorted(grid.sparsities, start)) - 0.5
            corner = (left - 0.04, grid.row(shape, batch) - 0.5)
            axes.add_patch(Rectangle(corner, 0.08, 1, color=theme.ink, zorder=4, clip_on=False))
