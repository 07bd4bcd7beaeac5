"""How every figure looks: two themes, and one fixed look per format.

Colours are Okabe and Ito's (2008), and Tol's for the guests that some cards add, told apart by
readers with any colour vision; each format also
has its own marker and dash, so that a black-and-white print can be read too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from . import load

TITLE_POINTS, TEXT_POINTS, NOTE_POINTS = 10.5, 8.0, 7.0


@dataclass(frozen=True)
class Theme:
    """Colours of one page background; ``diverging`` runs slower, even, faster."""

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    blank: str
    diverging: tuple[str, str, str]

    def colormap(self) -> LinearSegmentedColormap:
        """The diverging map of log ratios, its middle the colour of "no difference"."""
        return LinearSegmentedColormap.from_list(f"dynadiag-{self.name}", list(self.diverging))

    def settings(self) -> dict[Any, Any]:
        """Matplotlib settings under which every figure is drawn and saved."""
        return {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
            "font.size": TEXT_POINTS,
            "text.color": self.ink,
            "axes.labelcolor": self.ink,
            "axes.edgecolor": self.muted,
            "axes.facecolor": self.paper,
            "axes.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlesize": TEXT_POINTS,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": self.grid,
            "grid.linewidth": 0.6,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "xtick.labelsize": NOTE_POINTS,
            "ytick.labelsize": NOTE_POINTS,
            "lines.linewidth": 1.4,
            "lines.markersize": 4.0,
            "hatch.linewidth": 0.6,
            "hatch.color": self.muted,
            "figure.facecolor": self.paper,
            "savefig.facecolor": self.paper,
            "svg.fonttype": "none",
            "text.parse_math": False,
        }


LIGHT = Theme(
    "light",
    "#ffffff",
    "#1b1f24",
    "#59626c",
    "#e4e7eb",
    "#d3d7dc",
    ("#b2182b", "#f5f5f5", "#2166ac"),
)
DARK = Theme(
    "dark", "#15181c", "#e8eaed", "#a3abb4", "#2c3137", "#3a4047", ("#d6604d", "#23272c", "#4393c3")
)
THEMES = (LIGHT, DARK)


@dataclass(frozen=True)
class Look:
    """Colour, marker and dash of one format, its name in text, and its name in a small cell."""

    colour: str
    marker: str
    dash: Any
    name: str
    short: str


LOOKS = MappingProxyType(
    {
        "diagonal": Look("#D55E00", "o", "-", "diagonal", "diag"),
        "csr": Look("#0072B2", "s", (0, (5, 1.5)), "CSR", "CSR"),
        "nm": Look("#009E73", "^", (0, (4, 1, 1, 1)), "N:M", "N:M"),
        "block": Look("#CC79A7", "D", (0, (2, 1)), "block", "block"),
        "condensed": Look("#E69F00", "v", (0, (6, 1, 1, 1, 1, 1)), "condensed", "cond"),
        "masked_dense": Look("#56B4E9", "P", (0, (1, 1)), "masked dense", "mask"),
        "nm24": Look("#44AA99", "<", (0, (3, 1, 1, 1, 1, 1)), "2:4 (50 %)", "2:4"),
        "dia_ust": Look("#882255", "*", (0, (1, 1, 3, 1)), "DIA (nvmath)", "DIA"),
        "dense_tf32": Look("#8A7F72", "p", (0, (3, 2)), "dense TF32", "TF32"),
        "dense": Look("ink", "X", (0, (1, 2)), "dense", "dense"),
    }
)
ORDER = tuple(LOOKS)

# What a figure shows where a case has a reason and no number.
LETTERS = MappingProxyType({"skipped": "S", "wrong": "W", "failed": "F"})


def look(name: str, theme: Theme) -> Look:
    """The look of a format in ``theme``; a format unknown to this version is drawn in grey."""
    found = LOOKS.get(name, Look(theme.muted, "h", ":", name, name[:5]))
    return replace(found, colour=theme.ink) if found.colour == "ink" else found


def named(name: str) -> str:
    """A format as text writes it: ``N:M`` for ``nm``."""
    return look(name, LIGHT).name


def formats(frame: pd.DataFrame) -> list[str]:
    """Formats of ``frame`` in the fixed order of the report, unknown ones last."""
    return load.arranged(frame["format"], ORDER)


def themed(
    draw: Callable[[pd.DataFrame, Theme], Figure],
) -> Callable[[pd.DataFrame, Theme], Figure]:
    """Run a figure function under the settings of its theme, and only there."""

    @functools.wraps(draw)
    def figure(frame: pd.DataFrame, theme: Theme) -> Figure:
        with matplotlib.rc_context(theme.settings()):
            return draw(frame, theme)

    return figure
