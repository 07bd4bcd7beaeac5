"""One case taken from its parameters to its times, under the eyes of the equipment."""

from __future__ import annotations

from dynadiag.bench.paired import Benchmark, Precision

from .candidates import Bench
from .cases import Case
from .equipment import Equipment
from .loop import Loop
from .measure import Measurement


def take(
    case: Case,
    seed: int,
    precision: Precision,
    equipment: Equipment,
    *,
    benchmark: Benchmark | None = None,
    patience_s: float | None = None,
) -> Measurement:
    """Build the arms of a case and time them, again where heat slowed the device meanwhile.

    Args:
        case: what to measure.
        seed: of inputs, weights and order.
        precision: how narrow the intervals should be and what that may cost.
        equipment: what to measure with.
        benchmark: pytest-benchmark's fixture, which can be used once; a repetition, or a case
            without it, is timed by a `Loop`.
        patience_s: seconds after which an arm that is still not ready is left out.
    """
    bench = Bench(equipment.device, patience_s)
    measurement = Measurement(case, seed, bench)
    timers = [benchmark] if benchmark is not None else []

    def time() -> None:
        timer = timers.pop() if timers else Loop(bench.regime(case).stamp)
        measurement.time(timer, precision)

    _, measurement.seen = equipment.watched(time)
    return measurement
