"""Linear layers, format against format: `pytest suites/bench_layers.py --mode quick`."""

from __future__ import annotations

import pytest

from dynadiag.bench.paired import Benchmark
from dynadiag.bench.records import RecordError

from .calls import grad_mode
from .cases import Case
from .run import Run


def test_layer(benchmark: Benchmark, case: Case, run: Run) -> None:
    """Measure one case and record it; fail where an arm is wrong, so that the exit code tells."""
    try:
        with grad_mode(case.direction):
            measurement = run.take(case, benchmark)
            run.keep(measurement)
    except RecordError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    except Exception as error:
        run.keep_failure(case, error)
        raise
    if measurement.troubles:
        pytest.fail("; ".join(measurement.troubles), pytrace=False)
