"""Which format is fastest where: shape and batch down, sparsity across."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .. import cells, layout, style, tally, words
from ..style import Theme

HEADING = "Best format"
METHOD = (
    "Each cell names the format with the least median time and its speedup over dense. Hatched: "
    "the 99 % interval of the next format overlaps, so the two are too close to call."
)
SPLIT = ("regime", "dtype", "direction")


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """The fastest format of each case and the runner-up."""
    timed = frame[frame["time"] > 0].sort_values("time", kind="stable")
    ranked = timed.assign(rank=timed.groupby("case_id").cumcount()).set_index("case_id")
    best, second = ranked[ranked["rank"] == 0], ranked[ranked["rank"] == 1]
    best = best.join(second[["format", "time_lo"]].add_prefix("next_"))
    best["close"] = best["next_time_lo"].fillna(float("inf")) <= best["time_hi"]
    names = ["shape", "batch", "sparsity", "format", "arm", "time", "speedup"]
    return best[[*names, "next_format", "close"]].reset_index()


def title(frame: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The finding: the two formats that win most often."""
    if tally.is_suspect(frame):
        return "Fastest format, case by case"
    clear = shown[~shown["close"]]
    wins = clear["format"].value_counts().head(3)
    ranking = [f"{style.named(name)} in {count}" for name, count in wins.items()]
    total = words.count(len(shown), "case")
    return f"Of {total}, clearly fastest: {words.listing(ranking) or 'none'}"


@style.themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """One map."""
    shown = points(frame)
    if shown.empty:
        return layout.message("nothing was timed here", theme)
    grid = cells.Grid.of(frame[frame["case_id"].isin(shown["case_id"])])
    sheet, axes = layout.sheet(
        1,
        1,
        panel=grid.inches(0.95),
        title=title(frame, shown),
        note=tally.provenance(frame) + " · rows: shape · batch, columns: sparsity",
        legend=_legend(shown, theme),
        margins=layout.Margins(left=1.45, foot=0.35),
    )
    _panel(axes[0, 0], shown, grid, theme)
    return sheet


def _legend(shown: pd.DataFrame, theme: Theme) -> list[Patch]:
    named = [
        Patch(facecolor=_tint(name, theme), label=style.named(name))
        for name in style.formats(shown)
    ]
    close = Patch(facecolor="none", edgecolor=theme.muted, hatch=cells.HATCH, label="too close")
    return [*named, close]


def _panel(axes: Axes, shown: pd.DataFrame, grid: cells.Grid, theme: Theme) -> None:
    grid.frame(axes)
    for case in shown.itertuples():
        gain = f" {words.ratio(case.speedup)}" if case.speedup > 0 else ""
        text = style.look(case.format, theme).short + gain
        grid.cell(axes, case, _tint(case.format, theme), text, theme, undecided=case.close)


def _tint(name: str, theme: Theme) -> str:
    """The format's colour mixed with the paper, so that text on it can be read."""
    pairs = zip(to_rgb(style.look(name, theme).colour), to_rgb(theme.paper), strict=True)
    red, green, blue = (0.45 * colour + 0.55 * paper for colour, paper in pairs)
    return to_hex((red, green, blue))
