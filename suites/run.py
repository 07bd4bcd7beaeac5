"""One session of the suites: which cases, in which order, and how it ends."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dynadiag import kernels
from dynadiag.bench.allocator import keep_freed_memory
from dynadiag.bench.paired import Benchmark
from dynadiag.bench.records import RecordError, read_run
from dynadiag.bench.regimes import regime

from .arms import ARMS
from .cases import Case, CaseError, Mode
from .equipment import AUTO, Equipment, device_of
from .grid import FILES, load_mode, select
from .measure import Measurement
from .progress import Progress
from .recorder import Recorder
from .take import take

NAME = "dynadiag-run"
# What the sessions of one run have in common, with the defaults; `keyword` is pytest's -k.
SHARED = {"mode": "quick", "seed": 0, "arms": "", "shapes": "", "keyword": "", "device": AUTO}
T = TypeVar("T")


class Run:
    """The pytest plugin, registered as `dynadiag-run`, that orders the cases and keeps records.

    With `--benchmark-disable` nothing is timed, and so nothing is recorded.

    Attributes:
        mode: the cases, and how precisely to measure them.
        seed: of inputs, weights and order.
        equipment: what to measure with.
    """

    def __init__(self, mode: Mode, options: argparse.Namespace, equipment: Equipment) -> None:
        self.mode, self.equipment = mode, equipment
        self.seed: int = options.seed
        self._options = options
        self._recorder: Recorder | None = None
        self._progress: Progress | None = None
        self._note = ""

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Run:
        """Read the grid, and on `--resume` what the run to go on with was asked to do.

        Raises:
            ValueError: an unknown name, a device or regime that is not there, or an option that
                contradicts the run to resume.
            RecordError: the run to resume cannot be read.
        """
        agree(options, read_run(options.resume).header if options.resume else None)
        equipment = Equipment(device_of(options.device))
        mode = load_mode(options.grid or FILES[equipment.device], options.mode, ARMS)
        cases = select(mode.cases, arms=_words(options.arms), shapes=_words(options.shapes))
        for name in {case.regime for case in cases}:
            regime(name, equipment.device)
        return cls(replace(mode, cases=cases), options, equipment)

    @property
    def folder(self) -> Path | None:
        """Where the records are; None before the first case."""
        return self._recorder.folder if self._recorder else None

    def take(self, case: Case, benchmark: Benchmark) -> Measurement:
        """Build the arms of a case and time them."""
        precision, seed = self.mode.precision, case.seed(self.seed)
        return take(case, seed, precision, self.equipment, benchmark=benchmark)

    def keep(self, measurement: Measurement) -> None:
        """Record a case."""
        if self._recorder:
            self._recorder.keep(measurement)

    def keep_failure(self, case: Case, error: Exception) -> None:
        """Record why a case failed as a whole."""
        if self._recorder:
            self._recorder.keep_failure(case, case.seed(self.seed), error)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Shuffle, so that heat and drift do not follow sparsity, and leave out finished cases."""
        items.sort(key=lambda item: hashlib.sha256(f"{self.seed} {item.name}".encode()).digest())
        if not self._options.resume:
            return
        self._recorder = _or_usage_error(
            lambda: Recorder.resume(self._options.resume, self.mode, self.seed, self.equipment)
        )
        finished = [item for item in items if _case(item).id in self._recorder.finished]
        items[:] = [item for item in items if item not in finished]
        config.hook.pytest_deselected(items=finished)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Open the records and compile the kernels, then run the cases."""
        if not session.items or self._options.collectonly:
            return (yield)
        print("preparing: self-checks and kernels", file=sys.stderr)
        if not self._options.benchmark_disable:
            self._refuse()
        if self._recorder is None and not self._options.benchmark_disable:
            self._recorder = _or_usage_error(self._create)
        if self._recorder is not None:
            self._recorder.note(freed_memory=keep_freed_memory())
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # "no compiler" is news here, no error
            kernels.backends()
        with Progress(len(session.items)) as self._progress:
            return (yield)

    def _refuse(self) -> None:
        allowed = self._options.allow_shared
        reason = self.equipment.why_not(os.environ, allow_shared=allowed)
        if reason is not None:
            raise pytest.UsageError(reason)

    def _create(self) -> Recorder:
        asked = {name: getattr(self._options, name) for name in ("arms", "shapes", "keyword")}
        recorder = Recorder.create(self._options.out, self.mode, self.seed, asked, self.equipment)
        # After the first write: a folder that cannot be written is told before any work.
        if self.mode.self_checks:
            recorder.check()
        return recorder

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Name the case that is being measured."""
        if self._progress:
            self._progress.begin(nodeid.partition("[")[2].rstrip("]"))

    def pytest_runtest_logfinish(self) -> None:
        """Count it as done."""
        if self._progress:
            self._progress.end()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Close the records; a resumed run with nothing left to do has ended well."""
        if self._options.resume and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK
        if self._recorder:
            try:
                self._note = _verdict(self._recorder.close()["aa"])
            except RecordError as error:
                self._note = str(error)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the records are and whether they may claim anything."""
        if self._recorder:
            terminalreporter.write_line(f"records: {self.folder}")
            terminalreporter.write_line(self._note)


def agree(options: argparse.Namespace, earlier: Mapping[str, Any] | None) -> None:
    """Fill in options that were not given, from the header of the run to resume if there is one.

    Raises:
        CaseError: an option contradicts that header.
    """
    known = SHARED if earlier is None else SHARED | _asked(earlier)
    for name in SHARED:
        given = getattr(options, name)
        if given in (None, ""):
            setattr(options, name, known[name])
        elif earlier is not None and given != known[name]:
            raise CaseError(
                f"{name} {given!r} differs from {known[name]!r} in the run to resume; "
                "leave it out, or start a new run"
            )


def _asked(header: Mapping[str, Any]) -> dict[str, Any]:
    device = header.get("device", {}).get("type", "cpu")
    return {**header, **header.get("selection", {}), "device": device}


def _verdict(aa: Mapping[str, Any] | None) -> str:
    if aa is None:
        return "A/A: not measured, so nothing can be claimed"
    interval = f"{aa['ratio']:.4f} [{aa['lo']:.4f}, {aa['hi']:.4f}]"
    end = "" if aa["verdict"] == "SAME" else ": the run is suspect and claims nothing"
    return f"A/A: dense against itself {interval} {aa['verdict']}{end}"


def _or_usage_error(open_records: Callable[[], T]) -> T:
    try:
        return open_records()
    except RecordError as error:
        raise pytest.UsageError(str(error)) from error


def _case(item: pytest.Item) -> Case:
    case = getattr(item, "callspec").params["case"]  # noqa: B009 - absent from pytest.Item's type
    assert isinstance(case, Case)
    return case


def _words(text: str) -> Sequence[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
