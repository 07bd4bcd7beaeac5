"""Many runs on a cluster, through submitit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from dynadiag.train.folder import Result, TrainError
from dynadiag.train.loop import execute
from dynadiag.train.place import Place
from dynadiag.train.run import Run


@final
class _Job:
    """Executes a run; submitted again after preemption or a time-out, it resumes."""

    def __call__(self, run: Run, place: Place) -> Result:
        return execute(run, place)

    def checkpoint(self, run: Run, place: Place) -> Any:
        """Return what submitit is to submit in place of this job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, run, place)


def submit(
    runs: Iterable[Run], place: Place, *, cluster: str | None = None, **parameters: Any
) -> list[Any]:
    """Submit one job a run, as an array; a run that is finished ends at once.

    Args:
        runs: what to execute.
        place: where; its root must be seen by the machines of the cluster.
        cluster: `slurm`, or `local` and `debug` without one; None takes slurm where it is.
        parameters: of submitit, such as `timeout_min`, `slurm_partition` and `gpus_per_node`.

    Returns:
        submitit's jobs, in the order of the runs; `.result()` waits for one.

    Raises:
        TrainError: if submitit is missing.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise TrainError("submitit is not installed: pip install 'dynadiag[slurm]'") from error
    executor = submitit.AutoExecutor(folder=place.root / "slurm", cluster=cluster)
    executor.update_parameters(name="dynadiag", **parameters)
    every = list(runs)
    return list(executor.map_array(_Job(), every, [place] * len(every)))
