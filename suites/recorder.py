"""The records of one run: opened or resumed, written case by case, closed with the A/A verdict."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dynadiag.bench.energy import Energy, EnergyMeter, NoEnergy
from dynadiag.bench.paired import Call
from dynadiag.bench.records import Row, RunWriter, blank_row, read_run

from .cases import Case, Mode
from .equipment import Equipment
from .measure import Measurement
from .rows import control


class Recorder:
    """Writes one run folder."""

    def __init__(self, writer: RunWriter, mode: Mode, equipment: Equipment) -> None:
        self._writer, self._equipment = writer, equipment
        self._meter = _meter(mode, equipment)
        self._began = time.monotonic()

    @classmethod
    def create(
        cls, root: Path, mode: Mode, seed: int, selection: Mapping[str, Any], equipment: Equipment
    ) -> Recorder:
        """Start a run in a new folder of `root`.

        Raises:
            RecordError: the folder cannot be written.
        """
        fields = equipment.header(mode.name, seed) | {"selection": dict(selection)}
        return cls(RunWriter.create(root, fields, device_slug=equipment.slug), mode, equipment)

    @classmethod
    def resume(cls, folder: Path, mode: Mode, seed: int, equipment: Equipment) -> Recorder:
        """Go on with a run.

        Raises:
            RecordError: it is of another machine, mode or schema.
        """
        writer = RunWriter.resume(folder, equipment.header(mode.name, seed))
        return cls(writer, mode, equipment)

    def check(self) -> None:
        """Measure the ceilings of the device for the header.

        Raises:
            RecordError: the header cannot be written.
        """
        self.note(self_checks=self._equipment.self_checks())

    def note(self, **fields: object) -> None:
        """Put fields into the header.

        Raises:
            RecordError: the header cannot be written.
        """
        self._writer.update_header(**fields)

    @property
    def folder(self) -> Path:
        """Where the records are."""
        return self._writer.folder

    @property
    def finished(self) -> Collection[str]:
        """Ids of the cases that need not run again."""
        return self._writer.finished_cases()

    def keep(self, measurement: Measurement) -> None:
        """Write what is known about a case.

        Raises:
            RecordError: the disk is full or the folder gone.
        """
        self._writer.save_samples(measurement.case.id, measurement.samples)
        self.append(measurement.rows(self._energy))

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows, all of them or none.

        Raises:
            RecordError: the disk is full or the folder gone.
        """
        self._writer.append([row | {"run_id": self._run_id} for row in rows])

    def keep_failure(self, case: Case, seed: int, error: Exception) -> None:
        """Write why a case failed as a whole.

        Raises:
            RecordError: the disk is full or the folder gone.
        """
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        ending = {"metric": "case", "unit": "1", "status": "failed", "reason": reason}
        self.append([blank_row(**case.columns, **ending, seed=seed)])

    def close(self) -> dict[str, Any]:
        """Write the A/A verdict over all cases, those of earlier sessions too, and return it.

        Raises:
            RecordError: the disk is full or the folder gone.
        """
        verdict = control(read_run(self.folder).rows)
        before = float(self._writer.header.get("duration_s", 0.0))
        duration = before + time.monotonic() - self._began
        self._writer.update_header(**verdict, duration_s=duration)
        return verdict

    @property
    def _run_id(self) -> str:
        return str(self._writer.header["run_id"])

    def _energy(self, call: Call) -> Energy:
        return self._meter.between_idles(call)


def _meter(mode: Mode, equipment: Equipment) -> EnergyMeter:
    meter = equipment.meter()
    if mode.energy or isinstance(meter, NoEnergy):
        return meter
    return NoEnergy(f"mode {mode.name} leaves energy out, which takes seconds for every arm")
