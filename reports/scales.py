"""The upright axis of accuracy and loss, and the foot of their figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from . import trained

# Accuracies that may be marked; those too close to their neighbour are not.
TICKS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)
LEAST_ERROR = 1e-3


def height(values: pd.Series, metric: pd.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Place on the axis: the loss itself, or minus log2 of the error of an accuracy."""
    array = values.to_numpy(dtype=float)
    by_accuracy = (metric == "accuracy").to_numpy() & np.isfinite(array)
    by_error = -np.log2(np.clip(1 - array, LEAST_ERROR, 1))
    return np.asarray(np.where(by_accuracy, by_error, array))


def heights(frame: pd.DataFrame) -> tuple[np.ndarray[Any, np.dtype[np.float64]], ...]:
    """Places of the mean and of the ends of its interval."""
    return tuple(height(frame[name], frame["metric"]) for name in ("value", "value_lo", "value_hi"))


def finish(axes: Axes, frame: pd.DataFrame) -> None:
    """Name the axis of one task, and mark accuracies where `height` put them.

    The means decide its length: intervals of two seeds may be longer than all differences.
    """
    score = trained.score(frame)
    axes.set_ylabel(score.axis, labelpad=2)
    means, lows, highs = heights(frame)
    room = 0.25 * float(np.ptp(means)) or 0.1
    least, most = means.min() - room, means.max() + room
    ends = np.stack([lows, highs, means])
    axes.set_ylim(max(least, np.nanmin(ends) - room / 4), min(most, np.nanmax(ends) + room / 4))
    if score.sign < 0:
        return
    low, high = axes.get_ylim()
    places: list[float] = []
    for accuracy in reversed(TICKS):
        place = float(-np.log2(1 - accuracy))
        if low <= place <= high and (not places or places[-1] - place > (high - low) / 8):
            places.append(place)
    axes.yaxis.set_major_locator(FixedLocator(places or [(low + high) / 2]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * (1 - 2**-y):.3g}"))


def provenance(frame: pd.DataFrame) -> str:
    """Seeds, intervals and device, for the foot of a figure."""
    count = trained.seeds(frame)
    return f"{count} · 95 % t-intervals over seeds · test split · {frame['device'].iloc[0]}"
