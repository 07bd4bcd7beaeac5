"""What the run says, in plain words made from its data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from . import load, style, tally, words
from .figures import best_format, break_even, memory
from .load import Records

PASSES = {"forward": "forward pass", "step": "training step"}
MOST_GROUPS = 3


@dataclass(frozen=True)
class Summary:
    """The sentences that open the page.

    Attributes:
        lead: the one sentence to remember.
        findings: further sentences.
        losses: where diagonals lose; empty when nothing may be claimed.
        control: the A/A result.
        suspect: whether the A/A result forbids every claim.
    """

    lead: str
    findings: list[str]
    losses: str
    control: str
    suspect: bool


def summarise(records: Records, frame: pd.DataFrame) -> Summary:
    """Write the summary of one run; ``frame`` holds one arm a format."""
    control = _control(records)
    if records.suspect:
        lead = "This run is suspect, so nothing is claimed from it: repeat it on a quiet machine."
        return Summary(lead, [], "", control, suspect=True)
    parts = dict(load.variants(frame, ("regime", "dtype", "direction")))
    speeds = [text for key, part in parts.items() if (text := _speed(key, part))]
    device = load.device_name(records.header)
    lead = f"On {device}, {speeds[0]}." if speeds else f"On {device}, no ratio was measured."
    findings = [f"{text[0].upper()}{text[1:]}." for text in speeds[1:]]
    findings += [text for item in list(parts.items())[:1] for text in _scope(*item)]
    regimes = [part for _, part in load.variants(frame, ("regime",))]
    findings += [text for part in regimes for text in _automatic(part)]
    losses = " ".join(_losses(part) for part in regimes)
    return Summary(lead, [*findings, energy_note(frame)], losses, control, suspect=False)


def _control(records: Records) -> str:
    found: dict[str, Any] | None = records.header.get("aa")
    if not found:
        return "The dense layer was not timed against itself: the run has no control."
    low, high = (f"{found[end]:.4f}" for end in ("lo", "hi"))
    return (
        f"Control (A/A): the dense layer timed against itself came out at {found['ratio']:.4f}× "
        f"({low} to {high}) over {words.count(found['cases'], 'case')}: {found['verdict']}."
    )


def _speed(key: tuple[str, ...], frame: pd.DataFrame) -> str:
    """The diagonal layer against dense and CSR at the headline sparsity; empty if unknown."""
    _, dtype, direction = key
    own = frame[(frame["format"] == "diagonal") & (frame["speedup"] > 0)]
    if direction not in PASSES or own.empty:
        return ""
    sparsity = tally.headline_sparsity(own)
    own = own[own["sparsity"] == sparsity]
    dense, csr = tally.tally(own), tally.tally(own, "csr_speedup")
    text = f"the {dtype} {PASSES[direction]}{_regime(frame)} of a diagonal layer at "
    text += f"{words.percent(sparsity)} sparsity runs at {words.ratio(dense.geomean)} "
    text += "the speed of dense"
    if csr.compared:
        text += f" and {words.ratio(csr.geomean)} that of CSR"
    return text + f" (geometric mean of {words.count(dense.compared, 'case')}: {dense.sentence()})"


def _regime(frame: pd.DataFrame) -> str:
    """The regime in brackets; nothing for `eager` on a machine that has no other."""
    (name,) = set(frame["regime"])
    silent = name == "eager" and not frame["card"].any()
    return "" if silent else f" ({words.REGIMES.get(name, name)})"


def _scope(key: tuple[str, ...], frame: pd.DataFrame) -> Iterator[str]:
    where = " ".join(key[1:]) + _regime(frame)
    yield f"{break_even.title(frame)} ({where})."
    yield f"{best_format.title(frame, best_format.points(frame))} ({where})."
    yield f"{memory.title(frame)}."


def _automatic(frame: pd.DataFrame) -> Iterator[str]:
    """How much slower the backend chosen by itself is than the best of the others."""
    own = frame[frame["format"] == "diagonal"]
    worst = own[["cpu_speedup", "cuda_speedup", "gemm_speedup"]].min(axis=1).dropna()
    if worst.empty:
        return
    behind = int((worst < 0.95).sum())
    yield (
        f"Choosing the backend by itself{_regime(frame)}, the layer is more than 5 % slower than "
        f"its best backend in {behind} of {words.count(len(worst), 'case')} "
        f"(worst {words.ratio(worst.min())})."
    )


def energy_note(frame: pd.DataFrame) -> str:
    """Whether energy is known, and why not."""
    if (frame["energy"] > 0).any():
        source = f" ({words.NVML})" if frame["card"].any() else ""
        return f"Energy was metered{source}; see the energy figure."
    reasons = [reason for reason in frame["energy_reason"].dropna() if reason]
    return f"Energy is not known here: {reasons[0] if reasons else 'the run kept no energy rows'}."


def _losses(frame: pd.DataFrame) -> str:
    own = frame[frame["format"] == "diagonal"].set_index("case_id")
    head = f"Where diagonals lose{_regime(frame)}"
    if own.empty:
        return f"{head}: unknown, no diagonal layer was measured."
    parts = [_loss(own, "speedup", "dense"), _loss(own, "csr_speedup", "CSR")]
    parts += [text for name in ("block", "nm", "condensed") if (text := _beaten(frame, own, name))]
    bad = own[own["status"].isin(["wrong", "failed"])]
    parts += [f"wrong or failed in {words.count(len(bad), 'case')}"] if len(bad) else []
    return f"{head}: {'; '.join(part for part in parts if part)}."


def _loss(own: pd.DataFrame, ratio: str, rival: str) -> str:
    compared, lost = own[own[ratio] > 0], own[own[f"{ratio}_verdict"] == "SLOWER"]
    if compared.empty:
        return ""
    if lost.empty:
        return f"to {rival} in none of {words.count(len(compared), 'case')}"
    groups = sorted(lost.groupby(["dtype", "direction"]), key=lambda group: -len(group[1]))
    places = [f"{' '.join(key)} {_where(part)}" for key, part in groups[:MOST_GROUPS]]
    worst = words.ratio(lost[ratio].min())
    total = words.count(len(compared), "case")
    return f"to {rival} in {len(lost)} of {total} ({'; '.join(places)}; worst {worst})"


def _where(cases: pd.DataFrame) -> str:
    sparsity = words.span(100 * cases["sparsity"], "{:.3g}")
    return f"at {sparsity} % sparsity, batch {words.span(cases['batch'])}"


def _beaten(frame: pd.DataFrame, own: pd.DataFrame, rival: str) -> str:
    """Cases in which the rival's interval of the time lies wholly below the diagonal one's."""
    theirs = frame[frame["format"] == rival].set_index("case_id")
    both = own.join(theirs[["time_hi"]].add_prefix("rival_"), how="inner")
    both = both[(both["time_lo"] > 0) & (both["rival_time_hi"] > 0)]
    lost = both[both["rival_time_hi"] < both["time_lo"]]
    if both.empty:
        return ""
    count = words.count(len(both), "case")
    if lost.empty:
        return f"to {style.named(rival)} in none of {count}"
    return f"to {style.named(rival)} in {len(lost)} of {count} ({_where(lost)})"
