"""Where things stand on a figure: sheets of panels laid out in inches, legends, and axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator

from . import style, words
from .style import NOTE_POINTS, TITLE_POINTS, Theme


@dataclass(frozen=True)
class Margins:
    """Inches around the panels and between them."""

    left: float = 0.75
    right: float = 0.15
    foot: float = 0.5
    between_columns: float = 0.14
    between_rows: float = 0.16


def sheet(
    rows: int,
    columns: int,
    *,
    panel: tuple[float, float],
    title: str,
    note: str,
    legend: Sequence[Line2D] | Sequence[Any] = (),
    margins: Margins | None = None,
    share: bool | Literal["row"] = True,
) -> tuple[Figure, np.ndarray[Any, np.dtype[Any]]]:
    """Lay out ``rows`` x ``columns`` panels of ``panel`` inches below a title and a legend.

    Placed in inches rather than by a layout engine: text never overlaps a panel however many
    panels there are, and drawing is five times faster.

    Args:
        rows: of panels.
        columns: of panels.
        panel: width and height of one, in inches.
        title: the finding.
        note: the method, printed at the foot so that a screenshot carries it.
        legend: handles, listed below the title.
        margins: around and between the panels.
        share: whether panels share both axes; ``row``: the upright one within a row only.
    """
    edge = margins or Margins()
    inner = columns * panel[0] + (columns - 1) * edge.between_columns
    width = max(7.0, edge.left + inner + edge.right)
    heading = words.wrapped(title, width - 0.2, TITLE_POINTS)
    footer = words.wrapped(note, width - 0.2, NOTE_POINTS)
    per_line = max(1, int((width - 0.2) / 1.2))
    legend_height = 0.2 * -(-len(legend) // per_line) + (0.08 if legend else 0)
    top = 0.12 + 0.19 * (heading.count("\n") + 1) + legend_height + 0.24
    bottom = edge.foot + 0.14 * (footer.count("\n") + 1) + 0.06
    height = top + rows * panel[1] + (rows - 1) * edge.between_rows + bottom

    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, sharex=bool(share), sharey=share, squeeze=False)
    figure.subplots_adjust(
        left=edge.left / width,
        right=(edge.left + inner) / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=edge.between_columns / panel[0],
        hspace=edge.between_rows / panel[1],
    )
    left = 0.1 / width
    figure.text(left, 1 - 0.1 / height, heading, va="top", fontsize=TITLE_POINTS, fontweight="bold")
    figure.text(left, 0.06 / height, footer, va="bottom", fontsize=NOTE_POINTS, alpha=0.75)
    if legend:
        _legend(figure, legend, per_line, 1 - (top - 0.24 - legend_height) / height)
    return figure, axes


def _legend(figure: Figure, handles: Sequence[Any], per_line: int, top: float) -> None:
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.07 / figure.get_figwidth(), top),
        ncols=min(per_line, len(handles)),
        frameon=False,
        fontsize=NOTE_POINTS,
        handlelength=2.6,
        columnspacing=1.4,
        borderaxespad=0.0,
    )


def handle(name: str, theme: Theme, *, line: bool = True, marker: bool = True) -> Line2D:
    """Legend entry of a format, with its line, its marker or both."""
    its = style.look(name, theme)
    return Line2D(
        [],
        [],
        color=its.colour,
        marker=its.marker if marker else "",
        linestyle=its.dash if line else "none",
        label=its.name,
    )


def message(text: str, theme: Theme) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(7.0, 1.0))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=theme.muted)
    return figure


def absent(axes: Axes, text: str, theme: Theme) -> None:
    """Empty a panel of axes and marks, and say why."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, color=theme.muted, ha="center", va="center", transform=axes.transAxes)


def log2_axis(axes: Axes, which: str = "y") -> None:
    """Label an axis that holds log2 of a ratio with the ratio: ½×, 1×, 2×, 4×."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(MultipleLocator(max(1, round((high - low) / 6))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda power, _: power_of_two(power)))


def power_of_two(power: float) -> str:
    """Write 2**power as a ratio: ``1/4×``, ``½×``, ``1×``, ``8×``."""
    whole = round(power)
    if abs(power - whole) > 1e-6:
        return ""
    return f"{2**whole}×" if whole >= 0 else "½×" if whole == -1 else f"1/{2**-whole}×"


def sparsity_axis(axes: Axes, sparsities: Sequence[float]) -> None:
    """Mark sparsities on an axis that holds log2(1/(1-s)); crowded labels are left out."""
    places = sorted(set(sparsities))
    shown: list[float] = []
    for sparsity in reversed(places):
        if not shown or density_steps(shown[-1]) - density_steps(sparsity) > 0.45:
            shown.append(sparsity)
    axes.set_xticks([density_steps(s) for s in shown], [f"{100 * s:.3g}" for s in shown])
    axes.set_xlim(density_steps(places[0]) - 0.35, density_steps(places[-1]) + 0.35)


def density_steps(sparsity: Any) -> Any:
    """Map a sparsity to log2(1/(1-s)): equal steps halve the weights that are left."""
    return -np.log2(1 - np.minimum(sparsity, 0.9999))


def filled(
    axes: np.ndarray[Any, np.dtype[Any]], items: Sequence[Any]
) -> Iterator[tuple[Axes, Any]]:
    """Pair panels with items, and switch off the panels left over."""
    for panel, item in zip_longest(axes.flat, items):
        if item is None:
            panel.set_axis_off()
        else:
            yield panel, item
