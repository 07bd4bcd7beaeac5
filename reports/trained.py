"""The rows of the accuracy suite as frames: what each method came to, and what was searched."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from . import words

SUITE = "accuracy"
BASELINES = ("rigl", "static_unstructured", "static", "dense")
KEY = ["case_id", "arm"]
ABOUT = ["model", "sparsity", "batch", "format", "metric", "sparsity_actual", "config"]
# Columns that are the mean of a metric over seeds.
MEANS = MappingProxyType({"seconds": "train_seconds", "freeze_change": "freeze_change"})
BETTER, WORSE, OPEN = "better", "worse", "open"
# How much worse than RigL still counts as good: points of accuracy, and a share of its loss.
MARGIN_POINTS, MARGIN_POINTS_SPARSEST, SPARSEST, MARGIN_LOSS = 0.3, 0.5, 0.985, 0.01


@dataclass(frozen=True)
class Score:
    """How a task is judged, and how its numbers are written.

    Attributes:
        axis: what an axis of it says.
        scale: from the record's unit to the one shown.
        sign: 1 where more is better, -1 where less is.
        unit: of a value, after the number.
        gap: unit of a difference.
        digits: after the point, of a value.
    """

    axis: str
    scale: float
    sign: int
    unit: str
    gap: str
    digits: int

    def value(self, value: float) -> str:
        """Write a value: ``97.1 %``, ``2.245 nat``."""
        return f"{self.scale * value:.{self.digits}f}{self.unit}" if np.isfinite(value) else "–"

    def plain(self, value: float) -> str:
        """Write a value without its unit: ``97.1``, ``2.245``."""
        return self.value(value).removesuffix(self.unit)

    def signed(self, value: float) -> str:
        """Write a difference without its unit: ``+0.12``, ``−0.004``."""
        digits = max(self.digits, 2)
        return f"{self.scale * value:+.{digits}f}".replace("-", "−")

    def half(self, low: float, high: float) -> str:
        """Write half the width of an interval: ``± 0.3``; empty where there is none."""
        width = self.scale * (high - low) / 2
        return f"± {width:.{self.digits}f}" if np.isfinite(width) else ""

    def between(self, low: float, high: float) -> str:
        """Write an interval of a difference: ``−0.40 to +0.16``; empty where there is none."""
        return f"{self.signed(low)} to {self.signed(high)}" if np.isfinite(high - low) else ""


SCORES = MappingProxyType(
    {
        "accuracy": Score("test accuracy, %", 100.0, 1, " %", "points", 1),
        "loss": Score("test loss, nat", 1.0, -1, " nat", "nat", 3),
    }
)


def results(rows: pd.DataFrame) -> pd.DataFrame:
    """What each method came to: a row a task, sparsity and method.

    For every baseline the columns ``rigl``, ``rigl_lo``, ``rigl_hi``, ``rigl_n``, ``rigl_p`` and
    ``rigl_verdict`` hold the paired difference to it, in the record's unit; ``margin`` is how much
    worse than RigL still counts as good. ``unfrozen`` is the value before the topology was frozen,
    ``freeze_change`` the relative change of the output by that.
    """
    arms = rows[rows["arm"].notna()]
    judged = arms[arms["metric"].isin(list(SCORES))]
    frame = judged.groupby(KEY, sort=False)[[*ABOUT, "status", "reason"]].first()
    frame = frame.join(_numbers(judged[judged["stat"] == "mean"], "value"))
    for name, metric in MEANS.items():
        means = arms[(arms["metric"] == metric) & (arms["stat"] == "mean")]
        frame = frame.join(_numbers(means, name)[name])
    unfrozen = judged[judged["stat"] == "unfrozen"]
    frame = frame.join(_numbers(unfrozen, "unfrozen")["unfrozen"])
    for baseline in BASELINES:
        against = arms[arms["baseline"] == baseline]
        frame = frame.join(_numbers(against[against["stat"] == "difference"], baseline))
        p = _numbers(against[against["metric"] == "p_value"], "p")["p"]
        frame = frame.join(p.rename(f"{baseline}_p"))
        frame[f"{baseline}_verdict"] = _verdicts(frame, baseline)
    frame["margin"] = _margins(frame)
    frame = frame.reset_index().rename(columns={"model": "task", "arm": "method"})
    for name in ("sparsity", "sparsity_actual", "batch"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    return frame


def _numbers(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Value, ends of the interval and number of seeds as columns of ``name``, by case and arm."""
    kept = rows.drop_duplicates(KEY).set_index(KEY)
    columns = {name: "value", f"{name}_lo": "ci_lo", f"{name}_hi": "ci_hi", f"{name}_n": "n"}
    return pd.DataFrame(
        {
            new: pd.to_numeric(kept[old], errors="coerce").astype(float)
            for new, old in columns.items()
        },
        index=kept.index,
    )


def _verdicts(frame: pd.DataFrame, baseline: str) -> pd.Series:
    """Better or worse where the whole interval is, else open; empty without a difference."""
    sign = frame["metric"].map(lambda name: SCORES[name].sign).astype(float)
    ends = np.stack([sign * frame[f"{baseline}_lo"], sign * frame[f"{baseline}_hi"]])
    found = np.where(ends.min(axis=0) > 0, BETTER, np.where(ends.max(axis=0) < 0, WORSE, OPEN))
    return pd.Series(np.where(frame[baseline].notna(), found, ""), index=frame.index)


def _margins(frame: pd.DataFrame) -> pd.Series:
    sparsest = pd.to_numeric(frame["sparsity"]) > SPARSEST
    points = np.where(sparsest, MARGIN_POINTS_SPARSEST, MARGIN_POINTS)
    loss = MARGIN_LOSS * (frame["value"] - frame["rigl"])
    by_accuracy = (frame["metric"] == "accuracy").to_numpy()
    return pd.Series(np.where(by_accuracy, points / 100, loss), index=frame.index)


def searches(rows: pd.DataFrame) -> pd.DataFrame:
    """The learning rates tried: a row a task, sparsity, method and rate."""
    tried = rows[(rows["metric"] == "learning_rate") & (rows["stat"] == "search")]
    columns = {"model": "task", "arm": "method", "value": "rate", "config": "found"}
    kept = tried.rename(columns=columns)
    return kept[["task", "sparsity", "method", "rate", "found", "n"]]


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """Methods that have no result, with ``reason``."""
    return frame[frame["status"] != "ok"]


def done(frame: pd.DataFrame) -> pd.DataFrame:
    """Methods that have a result."""
    return frame[frame["value"].notna() & (frame["status"] == "ok")]


def tasks(frame: pd.DataFrame) -> list[str]:
    """Tasks in the order of the record."""
    return list(dict.fromkeys(frame["task"]))


def score(frame: pd.DataFrame) -> Score:
    """How the one task of ``frame`` is judged."""
    return SCORES[frame["metric"].iloc[0]]


def seeds(frame: pd.DataFrame) -> str:
    """How many seeds the methods have: ``5 seeds``, or ``5 to 10 seeds`` where they differ."""
    counts = frame["value_n"].dropna().astype(int)
    if counts.empty or counts.min() == counts.max():
        return words.count(0 if counts.empty else int(counts.max()), "seed")
    return f"{counts.min()} to {counts.max()} seeds"
