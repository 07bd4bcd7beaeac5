"""The stages of a qualification, in their order; each takes its seconds and says what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import torch

from dynadiag import geometry
from dynadiag import kernels as backends
from dynadiag.bench.energy import EnergyMeter, NoEnergy
from dynadiag.bench.paired import Call
from dynadiag.bench.probe import probe
from dynadiag.bench.records import blank_row
from dynadiag.bench.regimes import regime
from dynadiag.kernels.cuda import choice
from dynadiag.kernels.problem import Problem

from ..calls import grad_mode
from ..candidates import BASELINES, SUBJECT, Bench
from ..cases import Case
from ..measure import Measurement
from ..rows import energy_rows
from . import energy, kernels
from .budget import Share
from .order import by_importance
from .session import PATIENCE_S, NotHere, Session

T = TypeVar("T")
METERED = ("dense", *(name for name in BASELINES if name != "dense"), SUBJECT)


@dataclass(frozen=True)
class Stage:
    """One part of a qualification.

    Attributes:
        name: in the header of the run.
        share: of the time.
        run: does it within so many seconds; returns what it found, in words.

    Raises:
        NotHere: by `run`, where there is nothing to do on this machine.
    """

    name: str
    share: Share
    run: Callable[[Session, float], str]


def compile_kernels(session: Session, seconds: float) -> str:
    """Compile what the card will run, so that no case waits for the compiler."""
    _need_card(session, "the kernels of the CPU are compiled on first use")
    return f"{kernels.compile_all()} kernels"


def check_kernels(session: Session, seconds: float) -> str:
    """Compare every kernel with fp64."""
    _need_card(session, "the tests check the kernels of the CPU")
    tested, counts, end = kernels.subjects(), Counter[str](), session.clock() + seconds
    for part in _chunks(kernels.problems(), 36):
        rows = [kernels.check(tested, one, "cuda") for one in part]
        session.recorder.append(rows)
        counts.update(str(row["status"]) for row in rows)
        session.troubles += [f"kernels: {row['reason']}" for row in rows if row["status"] != "ok"]
        if session.clock() > end:
            break
    left = kernels.unused(tested)
    session.recorder.note(kernels_not_checked=left)
    found = f"{counts['ok']} of {sum(counts.values())} products right"
    return f"{found}, {len(left)} kernels not reached" if left else f"{found}, by every kernel"


def check_machine(session: Session, seconds: float) -> str:
    """Measure the ceilings that times are held against."""
    session.recorder.check()
    return "measured"


def control(session: Session, seconds: float) -> str:
    """Time the dense layer against itself, before anything is claimed."""
    mode = session.mode("control")
    done = session.measure(mode.cases, mode.precision, seconds)
    return f"{done} of {len(mode.cases)} cases"


def headline(session: Session, seconds: float) -> str:
    """Time all arms, the most telling cases first."""
    mode = session.mode("headline")
    done = session.measure(by_importance(mode.cases), mode.precision, seconds)
    return f"{done} of {len(mode.cases)} cases"


def meter_energy(session: Session, seconds: float) -> str:
    """Meter the joules of the most telling case of each dtype, as many as fit."""
    meter = session.equipment.meter()
    if isinstance(meter, NoEnergy):
        raise NotHere(meter.reason)
    first: dict[str, Case] = {}
    for case in by_importance(session.mode("headline").cases):
        first.setdefault(case.dtype, case)
    least_s = 2 * energy.IDLE_S + 2 * len(METERED) * (energy.LEAST_S + 1.0)
    chosen = list(first.values())[: max(1, int(seconds / least_s))]
    for case in chosen:
        _meter_case(session, meter, replace(case, arms=METERED), seconds / len(chosen))
    return f"{len(chosen)} of {len(first)} cases"


def _meter_case(session: Session, meter: EnergyMeter, case: Case, seconds: float) -> None:
    end = session.clock() + seconds
    with grad_mode(case.direction):
        seed, bench = case.seed(session.seed), Bench(session.equipment.device, PATIENCE_S)
        built = Measurement(case, seed, bench)
        ready = {each.name: each for each in built.candidates if each.status == "ok"}
        calls = {name: each.ready for name, each in ready.items()}
        window_s = max(energy.LEAST_S, energy.window_s(end - session.clock(), len(calls)))
        found = energy.windows(meter, calls, window_s)
    for name, each in ready.items():
        about = case.columns | {"seed": seed, "n": 2} | built.about(each)
        rows = energy_rows(found[name], each.ready.iterations)
        session.recorder.append(blank_row(**(about | row)) for row in rows)


def refresh_table(session: Session, seconds: float) -> str:
    """Measure what `auto` should take for the products of the headline cases."""
    _need_card(session, "the table of the CPU fills itself as products are met")
    end, count = session.clock() + seconds, 0
    cold = regime("cold", "cuda")
    flush = cold.flush
    assert flush is not None

    def time_call(call: Call) -> float:
        with cold.stream():
            return probe(cold.prepare(call).call, before=flush).device_s

    for part in _chunks(_products(by_importance(session.mode("headline").cases)), 8):
        count += len(choice.refresh(part, time_call))
        if session.clock() > end:
            break
    return f"{count} products"


def _products(cases: Iterable[Case]) -> dict[Problem, None]:
    """Return the products that the diagonal layers of these cases compute, each once."""
    return dict.fromkeys(
        _problem(case, direction)
        for case in cases
        for direction in (backends.DIRECTIONS if case.direction == "step" else [case.direction])
    )


def _problem(case: Case, direction: str) -> Problem:
    m, n = case.out_features, case.in_features
    k = geometry.num_diagonals(m, n, case.sparsity)
    dtype = getattr(torch, case.dtype)
    return Problem(direction, dtype, m, n, k, case.batch, torch.get_num_threads())


def _need_card(session: Session, otherwise: str) -> None:
    if session.equipment.device != "cuda":
        raise NotHere(otherwise)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


STAGES = (
    Stage("compile", Share(2, 10, 90), compile_kernels),
    Stage("kernels", Share(2, 10, 60), check_kernels),
    Stage("machine", Share(2, 5, 40), check_machine),
    Stage("control", Share(1, 5, 20), control),
    Stage("headline", Share(12, 45, essential=True), headline),
    Stage("energy", Share(3, 30, 90), meter_energy),
    Stage("table", Share(1, 8, 40), refresh_table),
)
