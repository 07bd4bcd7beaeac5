"""Tables of the accuracy suite: results, differences with p-values, and the searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from . import methods, trained, words
from .tables import Cell, Table

TONES = {trained.BETTER: "win", trained.WORSE: "lose"}


def results(frame: pd.DataFrame) -> Iterator[Table]:
    """Mean and interval by method and sparsity, a table a task; coloured against RigL."""
    for task in trained.tasks(frame):
        part = frame[frame["task"] == task]
        yield _grid(part, f"{task}: {trained.score(part).axis}", _result)


def differences(frame: pd.DataFrame) -> Iterator[Table]:
    """Paired differences to each baseline with interval and p-value, a table a task."""
    for task in trained.tasks(frame):
        for baseline in trained.BASELINES:
            part = frame[(frame["task"] == task) & frame[baseline].notna()]
            if len(part):
                caption = f"{task}: difference to {methods.named(baseline)}, in "
                caption += trained.score(part).gap
                yield _grid(part, caption, partial(_difference, baseline=baseline))


def _grid(part: pd.DataFrame, caption: str, write: Callable[[pd.Series], Cell]) -> Table:
    sparsities = sorted(part["sparsity"].unique())
    cases = part.set_index(["method", "sparsity"])
    rows = [
        [
            Cell(methods.named(name)),
            *(
                write(cases.loc[(name, sparsity)]) if (name, sparsity) in cases.index else Cell("")
                for sparsity in sparsities
            ),
        ]
        for name in methods.arranged(part["method"])
    ]
    return Table(caption, ["", *(words.percent(sparsity) for sparsity in sparsities)], rows)


def _result(case: pd.Series) -> Cell:
    if case["status"] != "ok" or not np.isfinite(case["value"]):
        return Cell(words.MISSING, case["status"], "" if case["status"] == "skipped" else "bad")
    score = trained.SCORES[case["metric"]]
    half = score.half(case["value_lo"], case["value_hi"])
    return Cell(score.plain(case["value"]), half, TONES.get(case["rigl_verdict"], ""))


def _difference(case: pd.Series, baseline: str) -> Cell:
    score = trained.SCORES[case["metric"]]
    between = score.between(case[f"{baseline}_lo"], case[f"{baseline}_hi"])
    p = case[f"{baseline}_p"]
    note = ", ".join(filter(None, [between, f"p = {p:.2g}" if np.isfinite(p) else ""]))
    return Cell(score.signed(case[baseline]), note, TONES.get(case[f"{baseline}_verdict"], ""))


def absences(frame: pd.DataFrame) -> Table:
    """Methods without a result, and why."""
    lost = trained.failures(frame).fillna({"reason": "no reason recorded"})
    rows = []
    for (task, method, status, reason), part in lost.groupby(
        ["task", "method", "status", "reason"], sort=True
    ):
        sparsities = words.listing([words.percent(s) for s in sorted(part["sparsity"])])
        tone = "" if status == "skipped" else "bad"
        texts = [task, methods.named(method), status, reason, sparsities]
        rows.append([Cell(str(text), tone=tone) for text in texts])
    return Table("Not trained", ["task", "method", "status", "reason", "sparsities"], rows)


def recipes(frame: pd.DataFrame) -> Table:
    """What every method was trained with, and how sparse it became."""
    known = trained.done(frame)
    rows = []
    for (task, method, config), part in known.groupby(["task", "method", "config"], sort=False):
        sparsities = words.listing([words.percent(s) for s in sorted(part["sparsity"])])
        reached = words.listing([words.percent(s) for s in sorted(set(part["sparsity_actual"]))])
        seconds = words.seconds(part["seconds"].mean())
        texts = [task, methods.named(method), sparsities, config, reached, part["format"].iloc[0]]
        rows.append([Cell(str(text)) for text in (*texts, seconds)])
    columns = ["task", "method", "sparsities", "trained with", "reached", "stored as", "a run took"]
    return Table("Recipes", columns, rows)


def freezing(frame: pd.DataFrame) -> Table:
    """What freezing the topology did to the output of each method and to its result."""
    known = trained.done(frame)
    known = known[known["freeze_change"].notna() & (known["method"] != "dense")]
    rows = []
    for _, case in known.iterrows():
        score = trained.SCORES[case["metric"]]
        texts = [case["task"], methods.named(case["method"]), words.percent(case["sparsity"])]
        texts += [score.value(case[name]) for name in ("unfrozen", "value")]
        rows.append([Cell(text) for text in (*texts, f"{case['freeze_change']:.2g}")])
    columns = ["task", "method", "sparsity", "before", "after", "change of the output"]
    return Table("Freezing", columns, rows)


def _each(counts: pd.Series[float]) -> str:
    return words.listing([f"{count:g}" for count in sorted(set(counts))])


def searches(frame: pd.DataFrame) -> Table:
    """Learning rates tried on the validation split and what each came to."""
    tried = frame.assign(
        text=[_tried(*pair) for pair in zip(frame["rate"], frame["found"], strict=True)]
    )
    by = ["task", "method", "sparsity"]
    offers = tried.groupby(by, sort=False).agg(offer=("text", "; ".join), seeds=("n", _each))
    served = offers.reset_index().groupby(["task", "method", "offer", "seeds"], sort=False)
    rows = []
    for (task, method, offer, seeds), part in served["sparsity"]:
        sparsities = words.listing([words.percent(s) for s in sorted(part)])
        texts = [task, methods.named(method), sparsities, offer, seeds]
        rows.append([Cell(str(text)) for text in texts])
    columns = ["task", "method", "serves sparsities", "learning rate: found", "seeds"]
    return Table("Search for learning rates", columns, rows)


def _tried(rate: float, found: str) -> str:
    return f"{rate:g}: {found}"
