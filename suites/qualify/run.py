"""A qualification from its first second to its report: nothing measured is ever lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynadiag.bench.paired import PRECISIONS
from dynadiag.bench.records import RecordError

from ..cases import Mode
from ..equipment import Equipment
from ..grid import FILES
from ..limit import OutOfTime, limit
from ..recorder import Recorder
from .budget import Share, allot
from .session import NotHere, Session
from .stages import STAGES, Stage

# What the report takes at the end, kept free by all stages.
REPORT = Share(0, 25, essential=True)
# A stage that does not look at the clock is stopped this much after its time.
GRACE_S = 3.0


@dataclass
class Qualification:
    """What a qualification left behind.

    Attributes:
        folder: of its records.
        stages: name, status, seconds, and what was found or why not.
        troubles: what came out wrong.
        interrupted: whether somebody stopped it.
        measured: whether the dense layer was compared with itself, so that anything may be said.
    """

    folder: Path
    stages: list[dict[str, Any]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    interrupted: bool = False
    measured: bool = False

    @property
    def failed(self) -> bool:
        """Whether a product, an arm or a stage went wrong."""
        return bool(self.troubles) or any(each["status"] == "failed" for each in self.stages)


def qualify(
    seconds: float,
    out: Path,
    equipment: Equipment,
    *,
    grid: Path | None = None,
    stages: Sequence[Stage] = STAGES,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Qualification:
    """Measure as much as the time allows, the most telling first; the records are then closed.

    Args:
        seconds: until the report should be there.
        out: the folder runs go to.
        equipment: the device to qualify.
        grid: file with the modes `control` and `headline`; by default that of the device.
        stages: what to do, in this order.
        seed: of inputs, weights and order.
        clock: seconds.

    Raises:
        RecordError: the folder cannot be written.
    """
    end = clock() + seconds
    mode = Mode("qualify", PRECISIONS["quick"], energy=False, cases=())
    recorder = Recorder.create(out, mode, seed, {"minutes": seconds / 60}, equipment)
    session = Session(recorder, equipment, grid or FILES[equipment.device], seed, clock)
    done = Qualification(recorder.folder, troubles=session.troubles)
    for place, stage in enumerate(stages):
        shares = [each.share for each in stages[place:]]
        entry = _perform(stage, session, allot([*shares, REPORT], end - clock()))
        done.stages.append(entry)
        recorder.note(stages=done.stages)
        print(f"{stage.name}: {entry['status']}, {entry['note']}", file=sys.stderr)
        if entry["status"] == "interrupted":
            done.interrupted = True
            break
    done.measured = recorder.close()["aa"] is not None
    return done


def _perform(stage: Stage, session: Session, seconds: float | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": stage.name, "seconds": 0.0, "allotted_s": seconds}
    if seconds is None:
        return entry | {"status": "skipped", "note": "no time was left for it"}
    began = session.clock()
    status, note = _outcome(stage, session, seconds)
    return entry | {"seconds": session.clock() - began, "status": status, "note": note}


def _outcome(stage: Stage, session: Session, seconds: float) -> tuple[str, str]:
    try:
        with limit(seconds + GRACE_S):
            return "ok", stage.run(session, seconds)
    except OutOfTime:
        return "cut short", f"stopped after {seconds + GRACE_S:.0f} s; what it had is kept"
    except NotHere as reason:
        return "skipped", str(reason)
    except KeyboardInterrupt:
        return "interrupted", "stopped by hand; what it had is kept"
    except RecordError:
        raise
    except Exception as error:  # the stages after it may still find something
        return "failed", f"{type(error).__name__}: {error}".partition("\n")[0]
