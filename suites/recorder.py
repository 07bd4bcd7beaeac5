"""The records of one run: opened or resumed, written case by case, closed with the A/A verdict."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dynadiag.kernels.cpu.build import source_hash

from dynadiag.bench.energy import Energy, EnergyMeter, NoEnergy
from dynadiag.bench.environment import device_slug, header
from dynadiag.bench.records import RunWriter, blank_row, read_run
from dynadiag.bench.selfcheck import self_checks

from .calls import Call
from .cases import Case, Mode
from .measure import Measurement
from .rows import control


class Recorder:
    """Writes one run folder."""

    def __init__(self, writer: RunWriter, mode: Mode) -> None:
        self._writer = writer
        self._meter = _meter(mode)
        self._idle_watts = self._meter.idle_watts()
        self._began = time.monotonic()

    @classmethod
    def create(cls, root: Path, mode: Mode, seed: int, selection: Mapping[str, Any]) -> Recorder:
        """Start a run in a new folder of `root`.

        Raises:
            RecordError: the folder cannot be written.
        """
        fields = header(mode=mode.name, seed=seed)
        fields |= {"selection": dict(selection), "kernel_hash": source_hash()}
        recorder = cls(RunWriter.create(root, fields, device_slug=device_slug()), mode)
        # After the first write: a folder that cannot be written is told before any work.
        recorder._writer.update_header(self_checks=self_checks())
        return recorder

    @classmethod
    def resume(cls, folder: Path, mode: Mode, seed: int) -> Recorder:
        """Go on with a run.

        Raises:
            RecordError: it is of another machine, mode or schema.
        """
        return cls(RunWriter.resume(folder, header(mode=mode.name, seed=seed)), mode)

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
        self._writer.append(list(measurement.rows(self._energy, run_id=self._run_id)))

    def keep_failure(self, case: Case, seed: int, error: Exception) -> None:
        """Write why a case failed as a whole.

        Raises:
            RecordError: the disk is full or the folder gone.
        """
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        ending = {"metric": "case", "unit": "1", "status": "failed", "reason": reason}
        row = blank_row(**case.columns, **ending, run_id=self._run_id, seed=seed)
        self._writer.append([row])

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
        return self._meter.window(call, idle_watts=self._idle_watts)


def _meter(mode: Mode) -> EnergyMeter:
    meter = EnergyMeter.open()
    if mode.energy or isinstance(meter, NoEnergy):
        return meter
    return NoEnergy(f"mode {mode.name} leaves energy out, which takes seconds for every arm")
