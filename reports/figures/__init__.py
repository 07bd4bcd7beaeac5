"""One module a figure, each a pure function from the frame to a matplotlib figure."""

from __future__ import annotations

from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from ..style import Theme
from . import (
    active_diagonals,
    alpha_paths,
    best_format,
    break_even,
    diagonal_map,
    differences,
    energy,
    latency,
    memory,
    overlap,
    pareto,
    profile,
    quality,
    roofline,
    speedup,
)


class Drawing(Protocol):
    """What a figure module offers."""

    @property
    def HEADING(self) -> str:
        """The section's name."""

    @property
    def METHOD(self) -> str:
        """How to read the figure, and what was computed."""

    @property
    def SPLIT(self) -> tuple[str, ...]:
        """Columns of the frame by which the figure is drawn several times."""

    def points(self, frame: pd.DataFrame, /) -> pd.DataFrame:
        """Exactly what is drawn, one row a point."""

    def figure(self, frame: pd.DataFrame, theme: Theme, /) -> Figure:
        """Draw ``points(frame)``; a frame without points gives a sheet that says so."""


DRAWINGS: dict[str, Drawing] = {
    "speedup": speedup,
    "break-even": break_even,
    "best-format": best_format,
    "profile": profile,
    "memory": memory,
    "latency": latency,
    "roofline": roofline,
    "energy": energy,
}
# Drawn from the results of the accuracy suite, from those with a speed, and from its traces.
TRAINED: dict[str, Drawing] = {"accuracy": quality, "differences": differences}
TRADED: dict[str, Drawing] = {"pareto": pareto}
TRACED: dict[str, Drawing] = {
    "alpha-paths": alpha_paths,
    "active-diagonals": active_diagonals,
    "overlap": overlap,
    "diagonal-map": diagonal_map,
}
