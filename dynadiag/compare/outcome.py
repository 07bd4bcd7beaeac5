"""What a comparison found: changes, gates, controls, and the one status that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from dynadiag.bench.statistics import Interval, Verdict

ALL_CASES = "geometric mean of all cases"


class CompareError(ValueError):
    """A comparison that cannot begin: wrong usage or an unreadable record. The message is final."""


class NotMeasurable(Exception):
    """Nothing can be measured here; the message says why."""


class Status(StrEnum):
    """What a comparison comes to."""

    OK = "OK"
    REGRESSION = "REGRESSION"
    NOT_MEASURABLE = "NOT_MEASURABLE"


class ExitCode(IntEnum):
    """How `dynadiag compare` ends. These numbers do not change."""

    OK = 0
    REGRESSION = 1
    USAGE = 2
    NOT_MEASURABLE = 3


class Kind(StrEnum):
    """What a change means for the status; only a regression counts against it."""

    REGRESSION = "regression"
    UNCONFIRMED = "unconfirmed"
    WARNING = "warning"
    IMPROVEMENT = "improvement"
    WITHIN = "within limits"  # whatever the change, it is smaller than `fail`
    AMBIGUOUS = "ambiguous"  # it may be as large as that
    STANDING = "standing"  # a speedup of one run alone, which is no change


@dataclass(frozen=True)
class Change:
    """How the speedup of one arm over one baseline moved.

    Attributes:
        case: id of the case; empty for the geometric mean of all.
        name: of the case, as people read it.
        columns: of the case's rows, what overrides match on.
        reference: the speedup it is held against; None where there is none (one run alone).
        now: the speedup measured now.
        ratio: of `now` over `reference`, below 1 where the arm became slower; alone, `now`.
        verdict: of `ratio` against the margin.
        p: of a ratio as small as this if the arm had slowed by `fail` and no more.
        note: why the kind is not what the interval says.
    """

    case: str
    name: str
    arm: str
    baseline: str
    reference: Interval | None
    now: Interval
    ratio: Interval
    verdict: Verdict
    kind: Kind
    p: float = 1.0
    columns: Mapping[str, Any] = field(default_factory=dict, repr=False)
    note: str = ""


@dataclass(frozen=True)
class Gate:
    """An exact check that failed; no noise excuses it.

    Attributes:
        kind: correctness, weight_bytes, peak_bytes or missing.
        text: what was and what is.
    """

    kind: str
    case: str
    name: str
    arm: str
    text: str


@dataclass(frozen=True)
class Control:
    """A ratio that the change cannot have touched.

    Attributes:
        ratio: should be 1; None where the control was not measured.
        moved: whether it is not, or cannot be shown to be.
    """

    name: str
    ratio: Interval | None
    moved: bool


@dataclass(frozen=True)
class Difference:
    """A fact of the environment that is not the same in both runs."""

    name: str
    reference: str
    now: str


@dataclass(frozen=True)
class Comparison:
    """The whole finding.

    Attributes:
        mode: run (one run alone), reference (a run against a stored one) or pairs (two commits).
        changes: one per case, arm and baseline.
        overall: one per arm and baseline, over all cases.
        reasons: why nothing can be said about time; empty where something can.
        against: what was compared with what, in words.
        pairs: pairs of processes, in mode pairs.
    """

    mode: str
    changes: tuple[Change, ...]
    overall: tuple[Change, ...] = ()
    gates: tuple[Gate, ...] = ()
    controls: tuple[Control, ...] = ()
    environment: tuple[Difference, ...] = ()
    reasons: tuple[str, ...] = ()
    against: str = ""
    pairs: int = 0

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The changes that make the status a regression."""
        return tuple(c for c in (*self.overall, *self.changes) if c.kind is Kind.REGRESSION)

    @property
    def status(self) -> Status:
        """Failed gates first, then whether time can be judged at all, then time."""
        if self.gates:
            return Status.REGRESSION
        if self.reasons:
            return Status.NOT_MEASURABLE
        return Status.REGRESSION if self.regressions else Status.OK

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of that status."""
        return ExitCode[self.status.name]
