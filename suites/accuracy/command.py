"""`dynadiag accuracy`, below its command line: searches, trains, and writes the rows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dynadiag.bench.environment import device_slug, header
from dynadiag.bench.records import RecordError, RunWriter, read_run
from dynadiag.train.folder import TRACE, Result, RunFolder, TrainError
from dynadiag.train.place import Place
from dynadiag.train.pool import run_all
from dynadiag.train.run import Run

from .grid import DENSE, Grid, load, only
from .rows import Arm, case_rows
from .search import Candidate, candidates, finalists, rates
from .search import Place as Searched

TRAINING, TOPOLOGY = "training", "topology"
Tried = Mapping[Searched, Sequence[Candidate]]
RUNS = Path(__file__).resolve().parents[2] / "results" / "runs"


def start(mode: str, out: Path | None = None, *, presets: str = "", methods: str = "") -> Path:
    """Make the folder of a new run, if `train` can be called with the same.

    Raises:
        GridError: the mode, or a name, is unknown.
        RecordError: the folder cannot be written.
    """
    only(load(mode), _names(presets), _names(methods))
    fields = header(mode=mode)
    return RunWriter.create(out or RUNS, fields, device_slug=f"{device_slug()}-accuracy").folder


def train(
    mode: str | None,
    folder: Path,
    *,
    presets: str = "",
    methods: str = "",
    workers: int | None = None,
) -> list[str]:
    """Train what is missing and write the rows of every case anew that has changed.

    Args:
        mode: how much to train; None for the mode of the run.
        folder: of a run; trainings are kept in it, so that the same call goes on with them.
        presets: names joined by commas; empty for all of the mode.
        methods: names joined by commas; empty for all of the mode.
        workers: processes; by default one a core.

    Returns:
        What failed, a line each.

    Raises:
        GridError: a name is not in the mode.
        RecordError: the folder is no run of this machine and mode, or cannot be written.
    """
    recorded = read_run(folder).header["mode"]
    if mode not in (None, recorded):
        raise RecordError(f"{folder} is a run of mode {recorded}, not {mode}; start a new run")
    grid = load(recorded)
    part = only(grid, _names(presets), _names(methods))
    writer = RunWriter.resume(folder, header(mode=recorded))
    suite = _Suite(grid, set(part.methods), writer, Place(folder / TRAINING), workers)
    for preset in part.steps:
        suite.train(preset)
    return suite.failures


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


class _Suite:
    """One run of the suite under way: what it trains of the grid, and all that is trained of it."""

    def __init__(
        self,
        grid: Grid,
        methods: Collection[str],
        writer: RunWriter,
        place: Place,
        workers: int | None,
    ) -> None:
        self._grid, self._methods, self._writer = grid, methods, writer
        self._place, self._workers = place, workers
        self.failures: list[str] = []

    def train(self, preset: str) -> None:
        """Train one preset, and write its cases."""
        tried = self._search(preset)
        found = rates(self._grid, preset, tried)
        runs = list(self._grid.finals(preset, found))
        turn = self._grid.folds.get(preset, 1)
        turns = sorted({run.seed // turn for run in runs})
        for number in turns:
            batch = [run for run in runs if run.seed // turn == number]
            self._execute(batch, f"{preset}: round {number + 1} of {len(turns)}")
        for sparsity in self._grid.sparsities:
            self._write(preset, sparsity, runs, tried)
        self._keep_traces(runs)

    def _search(self, preset: str) -> Tried:
        first = list(self._grid.searches(preset))
        self._execute(first, f"{preset}: search")
        best = finalists(preset, candidates(self._finished(first)))
        second = list(self._grid.second_searches(preset, best))
        self._execute(second, f"{preset}: search, second round")
        return candidates(self._finished([*first, *second]))

    def _execute(self, runs: Sequence[Run], title: str) -> None:
        asked = [run for run in runs if run.method in self._methods]
        if asked:
            print(title, file=sys.stderr)
            try:
                run_all(asked, self._place, workers=self._workers)
            except TrainError as error:
                self.failures += str(error).splitlines()

    def _finished(self, runs: Sequence[Run]) -> list[tuple[Run, Result]]:
        results = ((run, RunFolder(self._place.root, run).result()) for run in runs)
        return [(run, result) for run, result in results if result is not None]

    def _write(self, preset: str, sparsity: float, runs: Sequence[Run], tried: Tried) -> None:
        every = (self._arm(preset, sparsity, method, runs, tried) for method in self._grid.methods)
        arms = [arm for arm in every if arm.runs or arm.method in self._methods]
        if any(arm.runs for arm in arms):
            number = self._writer.header["run_id"]
            rows = case_rows(preset, sparsity, arms)
            self._writer.put([row | {"run_id": number} for row in rows])

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
