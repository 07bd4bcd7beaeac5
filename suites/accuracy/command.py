"""`dynadiag accuracy`, below its command line: searches, trains, and writes the rows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dynadiag.bench.environment import device_slug, header
from dynadiag.bench.records import RunWriter, read_run
from dynadiag.train.folder import TRACE, Result, RunFolder, TrainError
from dynadiag.train.place import Place
from dynadiag.train.pool import run_all
from dynadiag.train.run import Run

from .grid import DENSE, Grid, load, only
from .rows import Arm, case_rows
from .search import Candidate, candidates, rates
from .search import Place as Searched

TRAINING, TOPOLOGY = "training", "topology"
Tried = Mapping[Searched, Sequence[Candidate]]
RUNS = Path(__file__).resolve().parents[2] / "results" / "runs"


def start(mode: str, out: Path | None = None) -> Path:
    """Make the folder of a new run.

    Raises:
        GridError: the mode is unknown.
        RecordError: the folder cannot be written.
    """
    load(mode)
    fields = header(mode=mode)
    return RunWriter.create(out or RUNS, fields, device_slug=f"{device_slug()}-accuracy").folder


def train(
    mode: str,
    folder: Path,
    *,
    presets: str = "",
    methods: str = "",
    workers: int | None = None,
) -> list[str]:
    """Train what is missing and write the rows of every case that is not yet there.

    Args:
        mode: how much to train.
        folder: of a run; trainings are kept in it, so that the same call goes on with them.
        presets: names joined by commas; empty for all of the mode.
        methods: names joined by commas; empty for all of the mode.
        workers: processes; by default one a core.

    Returns:
        What failed, a line each.

    Raises:
        GridError: a name is not in the mode.
        RecordError: the folder is no run of this machine, or cannot be written.
    """
    grid = only(load(mode), _names(presets), _names(methods))
    writer = RunWriter.resume(folder, header(mode=read_run(folder).header["mode"]))
    suite = _Suite(grid, writer, Place(folder / TRAINING), workers)
    for preset in grid.steps:
        suite.train(preset)
    return suite.failures


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


class _Suite:
    """One run of the suite under way."""

    def __init__(self, grid: Grid, writer: RunWriter, place: Place, workers: int | None) -> None:
        self._grid, self._writer, self._place, self._workers = grid, writer, place, workers
        self.failures: list[str] = []

    def train(self, preset: str) -> None:
        """Train one preset, and write its cases."""
        searches = [run for run in self._grid.searches() if run.preset == preset]
        tried = candidates(self._execute(searches, f"{preset}: search"))
        found = rates(self._grid, preset, tried)
        runs = list(self._grid.finals(preset, found))
        seeds = self._grid.seeds[preset]
        for seed in range(seeds):
            batch = [run for run in runs if run.seed == seed]
            self._execute(batch, f"{preset}: seed {seed + 1} of {seeds}")
        for sparsity in self._grid.sparsities:
            self._write(preset, sparsity, runs, tried)
        self._keep_traces(runs)

    def _execute(self, runs: Sequence[Run], title: str) -> list[tuple[Run, Result]]:
        if runs:
            print(title, file=sys.stderr)
            try:
                run_all(runs, self._place, workers=self._workers)
            except TrainError as error:
                self.failures += str(error).splitlines()
        return self._finished(runs)

    def _finished(self, runs: Sequence[Run]) -> list[tuple[Run, Result]]:
        results = ((run, RunFolder(self._place.root, run).result()) for run in runs)
        return [(run, result) for run, result in results if result is not None]

    def _write(self, preset: str, sparsity: float, runs: Sequence[Run], tried: Tried) -> None:
        arms = [self._arm(preset, sparsity, method, runs, tried) for method in self._grid.methods]
        if not any(arm.runs for arm in arms):
            return
        rows = list(case_rows(preset, sparsity, arms))
        if rows[-1]["case_id"] not in self._writer.finished_cases():
            number = self._writer.header["run_id"]
            self._writer.append([row | {"run_id": number} for row in rows])

    def _arm(
        self,
        preset: str,
        sparsity: float,
        method: str,
        runs: Sequence[Run],
        tried: Tried,
    ) -> Arm:
        reached = 0.0 if method == DENSE else sparsity
        mine = [run for run in runs if (run.method, run.sparsity) == (method, reached)]
        finished = self._finished(mine)
        offered = tried.get((preset, method, reached), [])
        return Arm(method, finished, offered, None if finished else self._failure(mine))

    def _failure(self, runs: Sequence[Run]) -> str:
        """Return what went wrong in the first of some runs that all failed, without its place."""
        names = {run.name for run in runs}
        told = (line for line in self.failures if any(name in line for name in names))
        line = next(told, "every seed failed; see the logs of the trainings")
        return line.partition(" (see ")[0]

    def _keep_traces(self, runs: Sequence[Run]) -> None:
        for run in runs:
            trace = RunFolder(self._place.root, run).path / TRACE
            if trace.exists():
                kept = self._writer.folder / TOPOLOGY
                kept.mkdir(exist_ok=True)
                share = f"s{100 * run.sparsity:g}"
                shutil.copyfile(trace, kept / f"{run.preset}-{run.method}-{share}.npz")
