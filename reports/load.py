"""Records as one tidy frame: a row per case and arm, a column per measured quantity."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dynadiag.bench.records import COLUMNS, RecordError, load_samples, read_run

from . import topology, trained
from .measures import MEASURES, Measure

CASE = [
    "case_id",
    "suite",
    "op",
    "direction",
    "model",
    "shape",
    "out_features",
    "in_features",
    "batch",
    "dtype",
    "sparsity",
    "regime",
    "duty",
    "process",
]
ARM = ["format", "backend", "is_baseline", "sparsity_actual", "nnz", "index_dtype", "config"]
KEY = ["case_id", "process", "arm"]
REGIMES = ("cold", "eager", "warm")
# Rows of another suite than the timing of layers; they stand in a table of their own.
CHECKS = "kernels"
DIRECTIONS = ("forward", "step", "grad_x", "grad_values")
DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Records:
    """One run, ready for figures and tables.

    Attributes:
        label: name of the run's folder.
        header: what ``run.json`` holds.
        frame: one row per case and arm.
        failures: cases that stopped before any arm was measured, with ``reason``.
        checks: products of single kernels that were compared with fp64.
        accuracy: one row per task, sparsity and training method.
        searches: learning rates that were tried.
        traces: topologies that were watched.
    """

    label: str
    folder: Path
    header: Mapping[str, Any]
    frame: pd.DataFrame
    failures: pd.DataFrame
    checks: pd.DataFrame
    accuracy: pd.DataFrame
    searches: pd.DataFrame
    traces: pd.DataFrame

    @property
    def suspect(self) -> bool:
        """Whether the A/A arm differed from dense, so that nothing may be claimed."""
        return bool(self.header.get("suspect"))


def load(folder: Path) -> Records:
    """Read a run folder.

    Raises:
        RecordError: if the folder is missing, holds no rows, or has another schema.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(
            f"no run folder {str(folder)!r}: pass a folder that holds run.json and rows.jsonl, "
            "as `dynadiag bench` prints at its end"
        )
    run = read_run(folder)
    if not run.rows:
        raise RecordError(
            f"run {str(folder)!r} holds no rows: nothing was measured yet; "
            "finish it with `dynadiag bench --resume` or pass another run"
        )
    rows = pd.DataFrame(run.rows, columns=list(COLUMNS))
    checked, learned = rows["suite"] == CHECKS, rows["suite"] == trained.SUITE
    timed = rows[~checked & ~learned]
    return Records(
        label=folder.resolve().name,
        folder=folder,
        header=run.header,
        frame=_frame(timed[timed["arm"].notna()], run.header, folder),
        failures=_failures(timed),
        checks=rows[checked],
        accuracy=trained.results(rows[learned]).assign(device=device_name(run.header)),
        searches=trained.searches(rows[learned]),
        traces=topology.traces(folder),
    )


def _failures(rows: pd.DataFrame) -> pd.DataFrame:
    closing = rows[(rows["metric"] == "case") & (rows["status"] != "ok")]
    return closing.drop_duplicates("case_id")


def _frame(rows: pd.DataFrame, header: Mapping[str, Any], folder: Path) -> pd.DataFrame:
    grouped = rows.groupby(KEY, sort=False, dropna=False)
    frame = grouped[[*(name for name in CASE if name not in KEY), *ARM, "seed"]].first()
    frame["flags"] = grouped["flags"].agg(_union)
    timed = rows[rows["metric"] == "time"].groupby(KEY, sort=False, dropna=False)
    frame = frame.join(timed[["status", "reason"]].first())
    for name, measure in MEASURES.items():
        frame = frame.join(_measure(rows, name, measure))
    frame = frame.reset_index()
    for name in ("model", "shape", "format", "arm", "dtype", "direction", "regime"):
        frame[name] = frame[name].fillna("").astype(object)
    frame["status"] = frame["status"].fillna("ok").astype(object)
    frame.loc[frame["status"] != "ok", list(MEASURES)] = np.nan
    return _with_header(frame, header, folder)


def _union(flags: pd.Series) -> str:
    lists = (entry if isinstance(entry, (list, tuple)) else [] for entry in flags)
    return ", ".join(sorted({str(flag) for entry in lists for flag in entry}))


def _measure(rows: pd.DataFrame, name: str, what: Measure) -> pd.DataFrame:
    wanted = rows["metric"] == what.metric
    wanted &= (rows["stat"] == what.stat) if what.stat else True
    wanted &= (rows["baseline"] == what.baseline) if what.baseline else True
    # What became known later, such as the energy, counts more than why it was not known before.
    picked = rows[wanted].sort_values("value", key=pd.isna, kind="stable")
    picked = picked.drop_duplicates(KEY).set_index(KEY)
    columns = {name: _floats(picked["value"])}
    for field in what.fields:
        text = field in ("verdict", "reason")
        column = picked[field].astype(object)
        columns[f"{name}_{field.removeprefix('ci_')}"] = (
            column.where(column.notna(), "") if text else _floats(column)
        )
    return pd.DataFrame(columns, index=picked.index)


def _floats(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce").astype(float)


def _with_header(frame: pd.DataFrame, header: Mapping[str, Any], folder: Path) -> pd.DataFrame:
    """Let what the figures need of the header travel with the rows."""
    for name in ("sparsity", "sparsity_actual", "nnz", "batch", "out_features", "in_features"):
        frame[name] = _floats(frame[name])
    if header.get("suspect"):
        frame.loc[frame["speedup_verdict"] != "", "speedup_verdict"] = "AMBIGUOUS"
        frame.loc[frame["csr_speedup_verdict"] != "", "csr_speedup_verdict"] = "AMBIGUOUS"
    frame["suspect"] = bool(header.get("suspect"))
    frame["device"] = device_name(header)
    frame["folder"] = str(folder)
    checks = header.get("self_checks") or {}
    copies = (_positive(_dig(checks, "copy_gbps", name)) for name in ("all_threads", "device"))
    frame["bandwidth"] = 1e9 * next((copy for copy in copies if copy > 0), np.nan)
    frame["card"] = _dig(header, "device", "type") == "cuda"
    rates = {d: 1e9 * _positive(_dig(checks, "gemm_gflops", d)) for d in set(frame["dtype"])}
    frame["ceiling"] = frame["dtype"].map(rates).astype(float)
    return frame


def _dig(value: object, *path: str) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _positive(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and value > 0 else float("nan")


def device_name(header: Mapping[str, Any]) -> str:
    """The device as the header names it."""
    device = header.get("device") or {}
    return str(device.get("name") or device.get("type") or "unknown device")


def representatives(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep one arm per case and format: the one named like its format, else the fastest.

    So ``diagonal`` is what ``backend="auto"`` chose, never the best of its backends after the
    fact, while a rival with several sizes (blocks of 16, 32, 64) gets its best one.
    """
    ranked = frame.assign(other_name=frame["arm"] != frame["format"])
    ranked = ranked.sort_values(["other_name", "time"], kind="stable", na_position="last")
    kept = ranked.groupby(["case_id", "process", "format"], sort=False, dropna=False).head(1)
    return kept.drop(columns="other_name").sort_index()


def variants(frame: pd.DataFrame, by: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Split ``frame`` by the columns ``by``: cold, float32 and forward first."""
    if not by:
        yield (), frame
        return
    known = {"regime": REGIMES, "dtype": DTYPES, "direction": DIRECTIONS}
    values = [arranged(frame[name], known.get(name, ())) for name in by]
    for key in product(*values):
        part = frame[(frame[list(by)] == list(key)).all(axis=1)]
        if len(part):
            yield key, part


def arranged(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """Distinct names in the order of ``known``, then the unknown ones by name."""
    place = {name: rank for rank, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (place.get(name, len(place)), name))


def shapes(frame: pd.DataFrame) -> list[str]:
    """Shapes, smallest matrix first."""
    size = frame.assign(size=frame["in_features"] * frame["out_features"])
    ordered = size.sort_values(["size", "in_features"], kind="stable")["shape"]
    return list(dict.fromkeys(ordered))


@functools.lru_cache(maxsize=16)
def samples(folder: str, case_id: str) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Sorted raw times of a case in seconds by arm; empty where none are kept or readable."""
    try:
        stored = load_samples(Path(folder), case_id)
    except RecordError:
        return {}
    return {arm: np.sort(times.astype(np.float64)) for arm, times in stored.items()}
