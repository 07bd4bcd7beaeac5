"""Wins, ties, losses and mean ratios over cases: what tables, titles and the summary share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dynadiag.bench import statistics

from . import words

# The sparsity most papers report; headline sentences use the nearest one measured.
HEADLINE_SPARSITY = 0.9


@dataclass(frozen=True)
class Tally:
    """What a set of cases says about one format against one baseline.

    Attributes:
        geomean: geometric mean of the speedups; NaN when nothing was compared.
        wins: cases whose whole interval lies above the margin, and so on.
        undecided: cases whose interval straddles the margin.
        missing: cases skipped, wrong or failed.
    """

    geomean: float
    wins: int
    ties: int
    losses: int
    undecided: int
    missing: int

    @property
    def compared(self) -> int:
        """Cases with a ratio."""
        return self.wins + self.ties + self.losses + self.undecided

    def sentence(self) -> str:
        """The counts in words: ``20 faster, 1 same, 3 slower``."""
        counts: Mapping[str, int] = {
            "faster": self.wins,
            "same": self.ties,
            "slower": self.losses,
            "undecided": self.undecided,
        }
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def tally(frame: pd.DataFrame, ratio: str = "speedup") -> Tally:
    """Count the verdicts of one format's cases and average its ratios."""
    values = frame[ratio].to_numpy(dtype=float)
    known = np.isfinite(values) & (values > 0)
    verdicts = frame[f"{ratio}_verdict"][known]
    counts = {name: int((verdicts == name).sum()) for name in ("FASTER", "SAME", "SLOWER")}
    return Tally(
        geomean=geomean(values),
        wins=counts["FASTER"],
        ties=counts["SAME"],
        losses=counts["SLOWER"],
        undecided=int(known.sum()) - sum(counts.values()),
        missing=int((~known).sum()),
    )


def geomean(values: object) -> float:
    """Geometric mean of the finite positive values; NaN for none."""
    array = np.asarray(values, dtype=float)
    kept = array[np.isfinite(array) & (array > 0)]
    return statistics.geomean(kept) if kept.size else float("nan")


def headline_sparsity(frame: pd.DataFrame) -> float:
    """The measured sparsity nearest to 90 %."""
    sparsities = frame["sparsity"].dropna().unique()
    return float(min(sparsities, key=lambda s: abs(s - HEADLINE_SPARSITY), default=np.nan))


def break_even(cases: pd.DataFrame, ratio: str = "speedup") -> float | None:
    """Sparsity from which on one format is FASTER in one shape, batch and direction, or None."""
    known = cases[cases[ratio] > 0]
    parts = [known[ratio + end] for end in ("", "_lo", "_hi")]
    ratios = [
        statistics.Ratio(value, low, high, 0, statistics.LEVEL)
        for value, low, high in zip(*parts, strict=True)
    ]
    return statistics.break_even(list(known["sparsity"]), ratios)


def provenance(frame: pd.DataFrame) -> str:
    """Where the numbers of a figure come from, for its foot."""
    rounds = words.span(frame["time_n"].dropna())
    kinds = [
        words.listing(sorted(set(frame[name].astype(str))))
        for name in ("regime", "dtype", "direction")
    ]
    return " · ".join([*kinds, frame["device"].iloc[0], f"{rounds} rounds", "99 % intervals"])


def is_suspect(frame: pd.DataFrame) -> bool:
    """Whether the run failed its A/A test, so that no title may claim anything."""
    return bool(frame["suspect"].any())
