"""A grid of cells, shape and batch down and sparsity across, shared by the two maps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from . import load
from .style import Theme

ROW_INCHES = 0.2
HATCH = "/////"
DARK_INK, LIGHT_INK = "#101418", "#ffffff"


@dataclass(frozen=True)
class Grid:
    """Places of the cells: one row a shape and batch, one column a sparsity."""

    rows: tuple[tuple[str, float], ...]
    sparsities: tuple[float, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """Rows and columns for every case of ``frame``."""
        order = load.shapes(frame)
        pairs = set(zip(frame["shape"], frame["batch"], strict=True))
        rows = sorted(pairs, key=lambda pair: (order.index(pair[0]), pair[1]))
        return cls(tuple(rows), tuple(sorted(frame["sparsity"].dropna().unique())))

    def inches(self, column: float) -> tuple[float, float]:
        """Width and height of a panel whose columns are ``column`` inches wide."""
        return max(1.0, column * len(self.sparsities)), ROW_INCHES * len(self.rows)

    def row(self, shape: str, batch: float) -> int:
        """Row of a shape and batch."""
        return self.rows.index((shape, batch))

    def cell(
        self, axes: Axes, case: Any, colour: Any, text: str, theme: Theme, *, undecided: bool
    ) -> None:
        """Fill the cell of ``case`` and write ``text`` in it, in the ink that can be read."""
        x, y = self.sparsities.index(case.sparsity), self.row(case.shape, case.batch)
        axes.add_patch(
            Rectangle(
                (x - 0.5, y - 0.5),
                1,
                1,
                facecolor=colour,
                edgecolor=theme.muted if undecided else theme.paper,
                hatch=HATCH if undecided else None,
                linewidth=0.8,
            )
        )
        ink = DARK_INK if _luminance(colour) > 0.3 else LIGHT_INK
        box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8} if undecided else None
        axes.text(x, y, text, color=ink, fontsize=6.5, ha="center", va="center", bbox=box)

    def frame(self, axes: Axes) -> None:
        """Set limits, ticks and the lines between shapes."""
        axes.set_xlim(-0.5, len(self.sparsities) - 0.5)
        axes.set_ylim(len(self.rows) - 0.5, -0.5)
        axes.set_xticks(range(len(self.sparsities)), [f"{100 * s:.3g} %" for s in self.sparsities])
        axes.set_yticks(range(len(self.rows)), [self._name(row) for row in self.rows])
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        shapes = [shape for shape, _ in self.rows]
        for row, (above, below) in enumerate(pairwise(shapes)):
            if above != below:
                axes.axhline(row + 0.5, color=axes.get_facecolor(), linewidth=2.5)

    @staticmethod
    def _name(row: tuple[str, float]) -> str:
        return f"{row[0].replace('x', ' → ')} · {row[1]:g}"


def _luminance(colour: Any) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
