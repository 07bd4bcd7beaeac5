"""Paired differences to RigL with their intervals: tasks down, sparsities across."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .. import layout, methods, scales, trained, words
from ..style import Theme, themed

HEADING = "Differences to RigL"
METHOD = (
    "Each mark is the mean over seeds of a method's result minus RigL's with the same seed, its "
    "bar the 95 % t-interval; right of the line is better than RigL, for losses too. Filled: the "
    "whole interval is on one side. The shaded strip is worse than RigL by no more than the margin "
    "set beforehand (0.3 points of accuracy, 0.5 at 99 %; 1 % of RigL's loss). What lies outside a "
    "panel is an arrow with its value. Scales differ from panel to panel; intervals are not "
    "corrected for their number."
)
SPLIT = ()
BASELINE = "rigl"
COLUMNS = ["task", "metric", "sparsity", "method", "rigl", "rigl_lo", "rigl_hi", "rigl_n", "rigl_p"]
INCHES = 0.155


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Every difference to RigL, and dense for what sparsity costs."""
    kept = trained.done(frame)
    return kept.loc[kept["rigl"].notna(), [*COLUMNS, "rigl_verdict", "margin"]]


def title(shown: pd.DataFrame) -> str:
    """The finding: in how many cases DynaDiag is better or worse."""
    own = shown[shown["method"] == "dynadiag"]
    if own.empty:
        return "Differences to RigL, seed by seed"
    counts = own["rigl_verdict"].value_counts()
    found = [int(counts.get(name, 0)) for name in (trained.BETTER, trained.WORSE, trained.OPEN)]
    return (
        f"DynaDiag against RigL: better in {found[0]}, worse in {found[1]}, too close to tell in "
        f"{found[2]} of {words.count(len(own), 'case')}"
    )


@themed
def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
    """A panel a task and sparsity, methods down."""
    shown = points(frame)
    if shown.empty:
        return layout.message("no method was trained with the seeds of RigL here", theme)
    tasks = trained.tasks(frame[frame["task"].isin(shown["task"])])
    sparsities = sorted(shown["sparsity"].unique())
    names = methods.arranged(shown["method"])
    sheet, axes = layout.sheet(
        len(tasks),
        len(sparsities),
        panel=(min(2.4, 5.6 / len(sparsities)), INCHES * len(names)),
        title=title(shown),
        note=scales.provenance(frame) + " · paired by seed",
        legend=_legend(theme),
        margins=layout.Margins(left=1.35, between_columns=0.18, between_rows=0.5, foot=0.5),
        share=False,
    )
    for row, task in enumerate(tasks):
        for column, sparsity in enumerate(sparsities):
            here = shown[(shown["task"] == task) & (shown["sparsity"] == sparsity)]
            _panel(axes[row, column], here, names, theme)
            _labels(axes[row, column], names, theme, first=column == 0)
            if row == 0:
                axes[row, column].set_title(words.percent(sparsity), pad=16)
        _name(axes[row, 0], task, shown[shown["task"] == task])
    return sheet


def _legend(theme: Theme) -> list[Patch]:
    worse, _, better = theme.diverging
    return [
        Patch(facecolor=better, label="better"),
        Patch(facecolor=worse, label="worse"),
        Patch(facecolor=theme.paper, edgecolor=theme.muted, label="too close"),
        Patch(facecolor=theme.blank, label="within margin"),
    ]


def _name(axes: Axes, task: str, shown: pd.DataFrame) -> None:
    text = f"{task}: difference in {trained.score(shown).gap}, right is better"
    axes.text(0, 1.04, text, fontweight="bold", ha="left", va="bottom", transform=axes.transAxes)


def _labels(axes: Axes, names: list[str], theme: Theme, *, first: bool) -> None:
    axes.set_ylim(len(names) - 0.4, -0.6)
    texts = [methods.look(name, theme).short if first else "" for name in names]
    axes.set_yticks(range(len(names)), texts)
    axes.tick_params(axis="y", length=0)
    for name, label in zip(names, axes.get_yticklabels(), strict=True):
        label.set_color(theme.ink if name in methods.FRONT else theme.muted)


def _panel(axes: Axes, shown: pd.DataFrame, names: list[str], theme: Theme) -> None:
    if shown.empty:
        axes.text(0.5, 0.5, "not trained", color=theme.muted, ha="center", transform=axes.transAxes)
        axes.set_xticks([])
        return
    score = trained.score(shown)
    limit = _limit(shown) * score.scale
    axes.axvspan(-score.scale * shown["margin"].iloc[0], 0, color=theme.blank, linewidth=0)
    axes.axvline(0, color=theme.ink, linewidth=0.9)
    for case in shown.itertuples():
        gain = score.scale * score.sign * case.rigl
        ends = sorted(score.scale * score.sign * end for end in (case.rigl_lo, case.rigl_hi))
        _mark(axes, names.index(case.method), gain, ends, limit, case, theme)
    axes.set_xlim(-limit, limit)
    axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes.xaxis.set_major_formatter(lambda x, _: _tick(score.sign * x))
    axes.grid(visible=False, axis="y")


def _limit(shown: pd.DataFrame) -> float:
    """Half the width of a panel: what holds the methods in front, and the margin.

    A method that failed would press all others onto the line: at most four times the usual reach.
    """
    reach = shown[["rigl", "rigl_lo", "rigl_hi"]].abs().max(axis=1)
    front = reach[shown["method"].isin(methods.FRONT)]
    widest = min((front if len(front) else reach).max(), 4 * reach.median())
    return 1.12 * float(np.nanmax([widest, 1.5 * shown["margin"].fillna(0).max()])) or 1.0


def _mark(
    axes: Axes,
    row: int,
    gain: float,
    ends: list[float],
    limit: float,
    case: Any,
    theme: Theme,
) -> None:
    verdict = case.rigl_verdict
    worse, _, better = theme.diverging
    colour = {trained.BETTER: better, trained.WORSE: worse}.get(verdict, theme.muted)
    if abs(gain) > 0.9 * limit:
        side = np.sign(gain)
        axes.plot(0.97 * side * limit, row, "<" if side < 0 else ">", color=colour, zorder=3)
        sign = -1 if case.metric == "loss" else 1
        axes.text(
            0.88 * side * limit,
            row,
            _tick(sign * gain),
            color=theme.muted,
            fontsize=6,
            ha="left" if side < 0 else "right",
            va="center",
        )
        return
    axes.plot(ends, [row, row], color=colour, linewidth=1.3, zorder=2)
    hollow = verdict == trained.OPEN
    look = methods.look(case.method, theme)
    axes.plot(
        gain,
        row,
        look.marker,
        color=colour,
        markerfacecolor=theme.paper if hollow else colour,
        zorder=3,
    )


def _tick(value: float) -> str:
    return f"{value + 0.0:.3g}".replace("-", "−")
