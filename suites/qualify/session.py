"""What the stages of a qualification share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynadiag.bench.paired import Precision
from dynadiag.bench.records import RecordError

from ..arms import ARMS
from ..calls import grad_mode
from ..cases import Case, Mode
from ..equipment import Equipment
from ..grid import load_mode
from ..recorder import Recorder
from ..take import take

# No arm of a case may take longer to get ready: some libraries search for minutes.
PATIENCE_S = 15.0


class NotHere(Exception):
    """A stage has nothing to do on this machine; the message says why."""


@dataclass
class Session:
    """One qualification at work.

    Attributes:
        recorder: where everything goes.
        equipment: what to measure with.
        grid: file with the modes `control` and `headline`.
        seed: of inputs, weights and order.
        clock: seconds.
        troubles: what came out wrong so far.
    """

    recorder: Recorder
    equipment: Equipment
    grid: Path
    seed: int
    clock: Callable[[], float] = time.monotonic
    troubles: list[str] = field(default_factory=list)

    def mode(self, name: str) -> Mode:
        """Return a mode of the grid."""
        return load_mode(self.grid, name, ARMS)

    def measure(self, cases: Sequence[Case], precision: Precision, seconds: float) -> int:
        """Measure cases for as long as another one fits; return how many were measured.

        Raises:
            RecordError: the disk is full or the folder gone.
        """
        done = 0
        for case in self._while_time(cases, seconds):
            self.take(case, precision)
            done += 1
        return done

    def take(self, case: Case, precision: Precision) -> None:
        """Measure and record one case; what befalls it must not cost the others.

        Raises:
            RecordError: the disk is full or the folder gone.
        """
        seed = case.seed(self.seed)
        try:
            with grad_mode(case.direction):
                measured = take(case, seed, precision, self.equipment, patience_s=PATIENCE_S)
                self.recorder.keep(measured)
            self.troubles += measured.troubles
        except RecordError:
            raise
        except Exception as error:
            self.recorder.keep_failure(case, seed, error)
            self.troubles.append(f"{case}: {type(error).__name__}: {error}")

    def _while_time(self, cases: Sequence[Case], seconds: float) -> Iterator[Case]:
        began = self.clock()
        for done, case in enumerate(cases):
            spent = self.clock() - began
            if done and spent + spent / done > seconds:
                return
            yield case
