"""Reports: records of runs to tables, figures and one HTML page. Reads only records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dynadiag.bench.records import RecordError

from . import html, load, tables
from .chapters import chapter
from .figures import pareto

__all__ = ["write_report"]


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write ``report.html`` and, in ``fig/``, each figure as SVG, PNG and CSV.

    Args:
        runs: folders of records; with several, the page also sets them side by side.
        out: where to write, by default the first run's folder.

    Returns:
        The path of the page.

    Raises:
        RecordError: if a folder is missing or holds no rows, or ``out`` cannot be written.
    """
    if not runs:
        raise RecordError("no run given: pass at least one folder that `dynadiag bench` wrote")
    loaded = [load.load(run) for run in runs]
    folder = Path(out or runs[0])
    try:
        (folder / "fig").mkdir(parents=True, exist_ok=True)
        return _write(loaded, folder)
    except OSError as error:
        raise RecordError(
            f"cannot write the report to {str(folder)!r} ({error}): choose another with --out"
        ) from error


def _write(runs: Sequence[load.Records], folder: Path) -> Path:
    several = len(runs) > 1
    speeds = pareto.speeds(pd.concat([run.frame for run in runs], ignore_index=True))
    chapters = [
        chapter(run, folder / "fig", speeds, f"run{place}-" if several else "")
        for place, run in enumerate(runs, 1)
    ]
    timed = [run for run in runs if not run.frame.empty]
    comparison = list(tables.comparison(timed)) if len(timed) > 1 else []
    path = folder / "report.html"
    path.write_text(html.page(chapters, comparison), encoding="utf-8")
    return path
