"""Many runs on one machine: a few processes that each take the next run, the longest first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from queue import SimpleQueue

import torch

from dynadiag.train.folder import LOG, Result, RunFolder, TrainError
from dynadiag.train.member import Member
from dynadiag.train.place import Place
from dynadiag.train.progress import Progress
from dynadiag.train.run import Run


def run_all(runs: Iterable[Run], place: Place, *, workers: int | None = None) -> list[Result]:
    """Execute runs in processes of one thread each; those already finished are not repeated.

    A run that fails does not stop the others. After an interruption the same call goes on where
    every run was.

    Args:
        runs: in the order of the results; the longest is started first.
        place: where they are executed.
        workers: number of processes; by default one a GPU, or one a core.

    Raises:
        ValueError: no workers are asked for.
        TrainError: at the end, if runs failed; it names their logs.
    """
    if workers is not None and workers < 1:
        raise ValueError(
            f"workers is {workers}, but must be at least 1; leave it out for one a core"
        )
    folders = {run: RunFolder(place.root, run) for run in runs}
    todo = sorted((run for run in folders if folders[run].result() is None), key=_cost)
    before = len(folders) - len(todo)
    failures = []
    with (
        _crew(place, min(workers or _slots(), len(todo))) as idle,
        Progress(len(folders), "runs", start=before) as progress,
    ):
        for done, (run, error) in enumerate(_executed(todo, idle), before + 1):
            progress.step()
            progress.tell(f"[{done}/{len(folders)}] {run.name}{' failed' if error else ''}")
            if error is not None:
                failures.append(f"{error} (see {folders[run].path / LOG})")
    if failures:
        heading = f"{len(failures)} of {len(folders)} runs failed:"
        raise TrainError("\n".join([heading, *failures]))
    return [result for folder in folders.values() if (result := folder.result()) is not None]


def _cost(run: Run) -> float:
    return -run.cost


def _slots() -> int:
    if torch.cuda.device_count():
        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _crew(place: Place, size: int) -> Iterator[SimpleQueue[Member]]:
    """Processes to take from a queue and to give back; interrupted if the block is left early."""
    members = [Member(place, slot) for slot in range(size)]
    idle: SimpleQueue[Member] = SimpleQueue()
    for member in members:
        idle.put(member)
    try:
        yield idle
    except BaseException:
        for member in members:
            member.interrupt()
        raise
    finally:
        for member in members:
            member.close()


def _executed(runs: list[Run], idle: SimpleQueue[Member]) -> Iterator[tuple[Run, str | None]]:
    """Execute runs in order; yield each when it has ended, with what went wrong."""

    def one(run: Run) -> str | None:
        member = idle.get()
        try:
            return member.execute(run)
        finally:
            idle.put(member)

    threads = ThreadPoolExecutor(max(1, idle.qsize()))
    futures: dict[Future[str | None], Run] = {threads.submit(one, run): run for run in runs}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
