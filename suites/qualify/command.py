"""`dynadiag qualify`, below its command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..equipment import Equipment
from .missing import missing
from .run import Qualification, qualify
from .stages import STAGES, Stage


class NotMeasurable(Exception):
    """Nothing can be measured here and now; the message says why, and what to do."""


def command(
    minutes: float,
    out: Path,
    *,
    allow_shared: bool = False,
    device: str = "cuda",
    grid: Path | None = None,
    stages: Sequence[Stage] = STAGES,
) -> Qualification:
    """Qualify the device of this machine.

    Args:
        minutes: until the report should be there.
        out: the folder runs go to.
        allow_shared: whether others may use the card meanwhile.
        device: ``cuda``, or ``cpu`` to try the stages where there is no card.
        grid: file with the modes `control` and `headline`; by default that of the device.
        stages: what to do.

    Raises:
        NotMeasurable: there is no card, something it needs is missing, or it is busy.
        RecordError: the folder cannot be written.
    """
    equipment = Equipment(device)
    reason = missing(device) or equipment.why_not(os.environ, allow_shared=allow_shared)
    if reason is not None:
        raise NotMeasurable(reason)
    return qualify(60 * minutes, out, equipment, grid=grid, stages=stages)
