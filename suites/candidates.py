"""From an arm's name to a layer that is known to compute the right thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dynadiag.bench.paired import FLOOR, Precision
from dynadiag.bench.regimes import Prepared, Regime, regime

from .arms import ARMS, Arm
from .calls import TOLERANCES, Call, Inputs, in_tf32, make_call, reference, relative_error
from .cases import CONTROLS, Case
from .limit import OutOfTime, limit
from .rows import Samples

SUBJECT = "diagonal"
BASELINES = ("dense", "csr")
FEW, FEW_S = 5, 0.05
SLOW = 20  # times dense: such an arm would eat the time of all others


@dataclass(frozen=True)
class Bench:
    """Where arms are built.

    Attributes:
        device: ``cpu`` or ``cuda``.
        patience_s: seconds after which an arm that is still not ready is left out.
    """

    device: str = "cpu"
    patience_s: float | None = None

    def regime(self, case: Case) -> Regime:
        """Return what times the calls of a case."""
        return regime(case.regime, self.device)


@dataclass
class Candidate:
    """An arm of a case on its way to being timed.

    Attributes:
        status: ok; skipped, where the format cannot hold the weight; failed; wrong.
        reason: why it is not ok.
        error: relative to fp64; None where nothing was computed.
        seconds: of the fastest of a few calls.
        call: computes the case once.
        ready: the call as its regime times it.
    """

    name: str
    arm: Arm
    status: str = "ok"
    reason: str | None = None
    error: float | None = None
    seconds: float = 0.0
    layer: Any = None
    call: Call = field(default=tuple)
    ready: Prepared = field(default=Prepared(tuple))


def prepare(
    case: Case, name: str, inputs: Inputs, seed: int, bench: Bench | None = None
) -> Candidate:
    """Build an arm and compare it with fp64; only one of status ok may be timed."""
    bench = bench or Bench()
    candidate = Candidate(name, ARMS[name])
    try:
        reason = candidate.arm.why_not(case, bench.device)
        if reason is not None:
            candidate.status, candidate.reason = "skipped", reason
        else:
            with limit(bench.patience_s):
                _build_and_check(case, candidate, inputs, seed, bench)
    except OutOfTime:
        late = f"it was not ready after {bench.patience_s:g} s, the limit of this run"
        candidate.status, candidate.reason = "skipped", late
    except Exception as error:  # whatever befalls one arm must not cost the others their times
        message = str(error).partition("\n")[0]
        candidate.status, candidate.reason = "failed", f"{type(error).__name__}: {message}"
    return candidate


def _build_and_check(
    case: Case, candidate: Candidate, inputs: Inputs, seed: int, bench: Bench
) -> None:
    candidate.layer = candidate.arm.build(case, seed, bench.device)
    expected = reference(case.direction, candidate.layer, inputs)
    call = make_call(case.direction, candidate.layer, inputs)
    candidate.call = in_tf32(call) if candidate.arm.tf32 else call
    candidate.error = error = relative_error(candidate.call(), expected)
    allowed = TOLERANCES["tf32" if candidate.arm.tf32 else case.dtype]
    if error <= allowed:
        candidate.ready = bench.regime(case).prepare(candidate.call)
        candidate.seconds = float(a_few(candidate.ready, bench.regime(case), FEW_S).min())
    else:
        candidate.status = "wrong"
        candidate.reason = f"error {error:.2g} against fp64; {case.dtype} allows {allowed:g}"


def a_few(ready: Prepared, regime: Regime, budget_s: float) -> Samples:
    """Return the seconds a call of one to `FEW` samples, no further one after the budget."""
    seconds: list[float] = []
    while len(seconds) < FEW and sum(seconds) < budget_s:
        if regime.flush is not None:
            regime.flush()
        start = regime.stamp()
        ready.call()
        seconds.append(regime.stamp() - start)
    return np.asarray(seconds) / ready.iterations


def in_rounds(seconds: Mapping[str, float], precision: Precision) -> list[str]:
    """Choose the arms that are timed side by side, dense first.

    The first is the one that pytest-benchmark times: that way the A/A control also tells whether
    its way of timing differs from ours. Controls, subject and baselines are always chosen. The
    others join, the fastest first, while as many rounds as an interval needs still fit the time of
    the case, unless far slower than dense.

    Args:
        seconds: of one call, by arm.
        precision: holds the time of a case.
    """
    always = dict.fromkeys((*CONTROLS, SUBJECT, *BASELINES))
    chosen = [name for name in always if name in seconds]
    calls = precision.hard_cap_s / FLOOR / 2  # each timed call comes after an untimed one
    left = calls - sum(seconds[name] for name in chosen)
    limit = SLOW * seconds.get("dense", precision.hard_cap_s)
    for name in sorted(seconds.keys() - always.keys(), key=lambda name: seconds[name]):
        left -= seconds[name]
        if left >= 0 and seconds[name] <= limit:
            chosen.append(name)
    return chosen
