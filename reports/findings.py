"""What the accuracy suite says, in plain words made from its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from . import methods, trained, words
from .figures import quality

# Pairs whose difference answers a question: method, baseline, and what is asked.
QUESTIONS = (
    ("dynadiag", "static", "Choosing diagonals:"),
    ("rigl", "static_unstructured", "Choosing entries:"),
    ("static", "static_unstructured", "The structure by itself:"),
    ("dynadiag_paper", "rigl", "The paper's formula:"),
)
OWN, RIVAL = "dynadiag", "rigl"


@dataclass(frozen=True)
class Findings:
    """The sentences that open the part on accuracy.

    Attributes:
        lead: the one sentence to remember.
        tasks: one sentence a task.
        findings: further sentences.
        losses: where diagonals lose.
    """

    lead: str
    tasks: list[str]
    findings: list[str]
    losses: str


def find(frame: pd.DataFrame) -> Findings:
    """Write the findings of one run of the accuracy suite."""
    known = trained.done(frame)
    if known.empty:
        return Findings("No training of the accuracy suite came to its end.", [], [], "")
    parts = [known[known["task"] == task] for task in trained.tasks(known)]
    answers = [text for question in QUESTIONS if (text := _answer(known, *question))]
    findings = [*_margin(known), *answers]
    return Findings(_lead(known), [_task(part) for part in parts], findings, _losses(known))


def _lead(known: pd.DataFrame) -> str:
    seeds = trained.seeds(known)
    own = _pairs(known, OWN, RIVAL)
    if own.empty:
        return f"Over {seeds}, DynaDiag was not compared with RigL."
    return f"Against RigL, over {seeds}, DynaDiag is {_counts(own, RIVAL)} (a task at a sparsity)."


def _pairs(known: pd.DataFrame, method: str, baseline: str) -> pd.DataFrame:
    return known[(known["method"] == method) & known[baseline].notna()]


def _counts(pairs: pd.DataFrame, baseline: str) -> str:
    counts = pairs[f"{baseline}_verdict"].value_counts()
    names = {trained.BETTER: "better", trained.WORSE: "worse", trained.OPEN: "not told apart"}
    found = [f"{name} in {counts[key]}" for key, name in names.items() if key in counts]
    return f"{words.listing(found)} of {words.count(len(pairs), 'case')}"


def _task(part: pd.DataFrame) -> str:
    """Dense, the best method by sparsity, and DynaDiag against RigL."""
    score, task = trained.score(part), part["task"].iloc[0]
    dense = part[part["method"] == "dense"]
    texts = [f"dense {score.value(dense['value'].iloc[0])}"] if len(dense) else []
    sparse = part[part["method"] != "dense"]
    tops = [quality.best(cases) for _, cases in sparse.groupby("sparsity")]
    texts += [f"best sparse method {_best(score, tops)}"] if tops else []
    own = _pairs(part, OWN, RIVAL).sort_values("sparsity")
    gaps = [_gap(score, case, RIVAL) for _, case in own.iterrows()]
    texts += [f"DynaDiag minus RigL, in {score.gap}: {words.listing(gaps)}"] if gaps else []
    name = score.axis.partition(",")[0]
    return f"{task} ({name}): {'; '.join(texts)}."


def _best(score: trained.Score, tops: Sequence[pd.Series]) -> str:
    places: dict[str, list[str]] = {}
    for top in tops:
        place = f"at {words.percent(top['sparsity'])} ({score.value(top['value'])})"
        places.setdefault(methods.named(top["method"]), []).append(place)
    return ", ".join(f"{name} {words.listing(found)}" for name, found in places.items())


def _gap(score: trained.Score, case: pd.Series, baseline: str) -> str:
    between = score.between(case[f"{baseline}_lo"], case[f"{baseline}_hi"])
    interval = f" ({between})" if between else ""
    value = score.signed(case[baseline])
    return f"{value}{interval} at {words.percent(case['sparsity'])}"


def _margin(known: pd.DataFrame) -> Iterator[str]:
    """In how many cases DynaDiag is not worse than RigL by more than the margin."""
    own = _pairs(known, OWN, RIVAL)
    if own.empty:
        return
    sign = own["metric"].map(lambda name: trained.SCORES[name].sign)
    ends = pd.concat([sign * own["rigl_lo"], sign * own["rigl_hi"]], axis=1)
    mean = int((sign * own["rigl"] >= -own["margin"]).sum())
    whole = int((ends.min(axis=1, skipna=False) >= -own["margin"]).sum())
    yield (
        f"Not worse than RigL by more than {trained.MARGIN_POINTS:g} points of accuracy "
        f"({trained.MARGIN_POINTS_SPARSEST:g} at 99 %) or {words.percent(trained.MARGIN_LOSS)} of "
        f"its loss: the mean of DynaDiag in {mean}, its whole interval in {whole} of "
        f"{words.count(len(own), 'case')}."
    )


def _answer(known: pd.DataFrame, method: str, baseline: str, question: str) -> str:
    pairs = _pairs(known, method, baseline)
    if pairs.empty:
        return ""
    own, rival = methods.named(method), methods.named(baseline)
    return f"{question} against {rival}, {own} is {_counts(pairs, baseline)}."


def _losses(known: pd.DataFrame) -> str:
    parts = [text for name in trained.BASELINES if (text := _lost(known, name))]
    return f"Where diagonals lose: DynaDiag {'; '.join(parts)}." if parts else ""


def _lost(known: pd.DataFrame, baseline: str) -> str:
    pairs = _pairs(known, OWN, baseline)
    if pairs.empty:
        return ""
    lost = pairs[pairs[f"{baseline}_verdict"] == trained.WORSE]
    rival = methods.named(baseline)
    if lost.empty:
        return f"to {rival} in none of {words.count(len(pairs), 'case')}"
    places = [_place(cases, baseline) for _, cases in lost.groupby("task", sort=False)]
    return f"to {rival} on {', '.join(places)}"


def _place(lost: pd.DataFrame, baseline: str) -> str:
    score = trained.score(lost)
    sparsities = words.listing([f"{100 * s:.3g}" for s in sorted(lost["sparsity"])])
    worst = lost.loc[(score.sign * lost[baseline]).idxmin(), baseline]
    gap = f"{score.signed(worst)} {score.gap}"
    return f"{lost['task'].iloc[0]} at {sparsities} % ({'worst ' if len(lost) > 1 else ''}{gap})"
