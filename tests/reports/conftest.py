"""A made-up run, written as `dynadiag bench` writes one: the reports are tested on it."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynadiag.bench.records import COLUMNS

RUN_ID = "0192aaaa-0000-7000-8000-000000000000"
MODELS = {
    "768x768": "ViT-B/16, GPT-2 small",
    "768x3072": "ViT-B/16, GPT-2 small",
    "3072x768": "ViT-B/16, GPT-2 small",
    "512x2048": "MLP-Mixer-S/16",
    "4096x11008": "Llama-2-7B",
}
# arm -> (format, backend, useful GFLOP/s in float32)
ARMS = {
    "dense": ("dense", "torch", 155.0),
    "dense_again": ("dense", "torch", 155.0),
    "masked_dense": ("masked_dense", "torch", 150.0),
    "diagonal": ("diagonal", "cpu", 62.0),
    "diagonal_cpu": ("diagonal", "cpu", 62.0),
    "diagonal_dense": ("diagonal", "dense", 150.0),
    "diagonal_reference": ("diagonal", "reference", 9.0),
    "csr": ("csr", "torch", 21.0),
    "nm": ("nm", "torch", 14.0),
    "block16": ("block", "torch", 38.0),
    "block32": ("block", "torch", 55.0),
    "block64": ("block", "torch", 70.0),
    "condensed": ("condensed", "torch", 17.0),
}
COMPUTES_EVERY_WEIGHT = ("dense", "dense_again", "masked_dense", "diagonal_dense")
WORK = {"forward": 1, "grad_x": 1, "grad_values": 1, "step": 3}


@dataclass(frozen=True)
class Grid:
    """What the made-up run measures."""

    shapes: tuple[str, ...] = ("768x768", "768x3072", "3072x768", "4096x11008")
    batches: tuple[int, ...] = (1, 16, 197, 1576)
    sparsities: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    directions: tuple[str, ...] = ("forward", "step")
    regimes: tuple[str, ...] = ("eager",)
    arms: tuple[str, ...] = tuple(ARMS)
    status: dict[str, str] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    samples: bool = False
    energy: bool = False


def cases(grid: Grid) -> Iterator[dict[str, Any]]:
    axes = (grid.dtypes, grid.directions, grid.shapes, grid.batches, grid.sparsities, grid.regimes)
    for dtype, direction, shape, batch, sparsity, regime in itertools.product(*axes):
        yield case(shape, batch, sparsity, dtype, direction, regime)


def case(
    shape: str, batch: int, sparsity: float, dtype: str, direction: str, regime: str
) -> dict[str, Any]:
    fan_in, fan_out = map(int, shape.split("x"))
    name = f"{shape}{batch}{sparsity}{dtype}{direction}{regime}"
    return {
        "case_id": hashlib.sha256(name.encode()).hexdigest()[:12],
        "suite": "layers",
        "op": "linear",
        "direction": direction,
        "model": MODELS.get(shape, "made up"),
        "shape": shape,
        "out_features": fan_out,
        "in_features": fan_in,
        "batch": batch,
        "dtype": dtype,
        "sparsity": sparsity,
        "regime": regime,
        "duty": None,
        "process": 0,
    }


def why_not(arm: str, sparsity: float) -> str | None:
    if arm == "nm" and sparsity == 0.95:
        return "4:80 needs in_features divisible by 80"
    if arm == "block64" and sparsity == 0.99:
        return "1 % of the blocks of 64 is less than one block a row"
    return None


def seconds(arm: str, where: dict[str, Any], weights: int) -> float:
    whole = where["in_features"] * where["out_features"]
    used = whole if arm in COMPUTES_EVERY_WEIGHT else weights
    rate = ARMS[arm][2] * 1e9
    if where["dtype"] == "bfloat16":
        rate *= 5.0 if arm in COMPUTES_EVERY_WEIGHT else 1.1
    flop = 2 * used * where["batch"] * WORK[where["direction"]]
    moved = used * (4 if arm in COMPUTES_EVERY_WEIGHT else 6) * WORK[where["direction"]]
    return float(flop / rate + moved / 12e9 + 6e-6)


def case_rows(where: dict[str, Any], grid: Grid, rng: np.random.Generator) -> list[dict[str, Any]]:
    whole = where["in_features"] * where["out_features"]
    rows: list[dict[str, Any]] = []
    kept = max(1, round(whole * (1 - where["sparsity"])))
    noisy = {arm: seconds(arm, where, kept) * rng.lognormal(0, 0.02) for arm in grid.arms}
    times = noisy | ({"dense_again": noisy["dense"]} if "dense" in noisy else {})
    for arm in grid.arms:
        form, backend, _ = ARMS[arm]
        dense = arm in ("dense", "dense_again")
        weights = whole if dense else kept
        base = (
            dict.fromkeys(COLUMNS)
            | where
            | {
                "run_id": RUN_ID,
                "arm": arm,
                "format": form,
                "backend": backend,
                "is_baseline": arm == "dense",
                "sparsity_actual": 1 - weights / whole,
                "nnz": weights,
                "index_dtype": None if dense else "int32",
                "config": "",
                "flags": [],
                "status": "ok",
                "seed": 0,
            }
        )
        reason = why_not(arm, where["sparsity"])
        status = "skipped" if reason else grid.status.get(arm, "ok")
        if status != "ok":
            why = reason or f"{arm} made up to be {status}"
            rows.append(base | measured("time", "s", "median", None, status=status, reason=why))
            continue
        rows += arm_rows(base, times, weights, rng, grid)
    closing = dict.fromkeys(COLUMNS) | where | {"run_id": RUN_ID, "flags": [], "seed": 0}
    rows.append(closing | measured("case", "1", "closing", None))
    return rows


def measured(
    metric: str, unit: str, stat: str, value: float | None, spread: float | None = None, **more: Any
) -> dict[str, Any]:
    row = {"metric": metric, "unit": unit, "stat": stat, "value": value, "status": "ok"}
    if value is not None and spread is not None:
        row |= {"ci_lo": value / (1 + spread), "ci_hi": value * (1 + spread), "ci_level": 0.99}
        row |= {"n": 60}
    return row | more


def arm_rows(
    base: dict[str, Any],
    times: dict[str, float],
    weights: int,
    rng: np.random.Generator,
    grid: Grid,
) -> Iterator[dict[str, Any]]:
    arm, time = base["arm"], times[base["arm"]]
    noise = 0.05 if base["batch"] == 1 else 0.008
    flags = ["precision_not_reached"] if time > 0.2 else []
    yield base | measured("time", "s", "median", time, noise, flags=flags)
    for stat, factor in (("p05", 0.97), ("p95", 1.09), ("min", 0.96)):
        yield base | measured("time", "s", stat, time * factor)
    own = ("diagonal_cpu", "diagonal_dense") if arm == "diagonal" else ()
    for baseline in ("dense", "csr", *own):
        if baseline in times and baseline != arm:
            value = times[baseline] / time * math.exp(rng.normal(0, noise / 8))
            pair = measured("speedup", "1", "median_log_ratio", value, noise, baseline=baseline)
            yield base | pair | {"verdict": judge(value, noise)}
    itemsize = 4 if base["dtype"] == "float32" else 2
    overhead = {"diagonal": 0, "csr": 4, "condensed": 4, "nm": 0.5, "block": 0.02}
    size = weights * (itemsize + overhead.get(base["format"], 0))
    yield base | measured("weight_bytes", "B", "computed", size)
    moved = base["batch"] * (base["in_features"] + base["out_features"]) * itemsize
    yield base | measured("peak_bytes", "B", "measured", moved * WORK[base["direction"]])
    yield base | measured("error", "1", "max_relative", 3e-7)
    if grid.energy:
        yield base | measured("energy", "J/iter", "gross", time * 55, 0.02)
        yield base | measured("energy", "J/iter", "net", time * 40)
        yield base | measured("power", "W", "mean", 55.0)
        yield base | measured("time", "s", "sustained", time)
    else:
        yield base | measured("energy", "J/iter", "gross", None, reason="no powercap counter")


def judge(value: float, spread: float, margin: float = 0.01) -> str:
    low, high = value / (1 + spread), value * (1 + spread)
    if low > 1 + margin:
        return "FASTER"
    if high < 1 / (1 + margin):
        return "SLOWER"
    return "SAME" if low > 1 / (1 + margin) and high < 1 + margin else "AMBIGUOUS"


def header(grid: Grid) -> dict[str, Any]:
    made = {
        "schema_version": "1.0",
        "run_id": RUN_ID,
        "started_utc": "2026-11-21T00:00:00Z",
        "argv": ["dynadiag", "bench", "--mode", "quick", "-k", "float32 and not llama"],
        "seed": 0,
        "mode": "quick",
        "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "branch": "main", "dirty": True},
        "device": {"type": "cpu", "name": "AMD EPYC 9B45", "cores": 2},
        "host": {"cpu": "AMD EPYC 9B45", "cores": 2, "memory_bytes": 8 * 2**30, "governor": None},
        "software": {"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6"},
        "torch_flags": {"num_threads": 2, "float32_matmul_precision": "highest"},
        "env": {"OMP_NUM_THREADS": "2"},
        "self_checks": {
            "copy_gbps": {"one_thread": 12.0, "all_threads": 21.0},
            "gemm_gflops": {"float32": 310.0, "bfloat16": 1500.0},
            "threads": 2,
        },
        "aa": {
            "ratio": 1.0003,
            "lo": 0.998,
            "hi": 1.0024,
            "n": 192,
            "verdict": "SAME",
            "cases": 192,
        },
        "suspect": False,
    }
    return made | grid.header


def write_run(folder: Path, grid: Grid) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(header(grid)))
    rng = np.random.default_rng(0)
    with (folder / "rows.jsonl").open("w") as stream:
        for where in cases(grid):
            rows = case_rows(where, grid, rng)
            stream.writelines(json.dumps(row) + "\n" for row in rows)
            if grid.samples:
                write_samples(folder, rows, rng)
    return folder


def write_samples(folder: Path, rows: list[dict[str, Any]], rng: np.random.Generator) -> None:
    (folder / "samples").mkdir(exist_ok=True)
    medians = {r["arm"]: r["value"] for r in rows if r["stat"] == "median" and r["value"]}
    spread = {arm: rng.lognormal(0, 0.03, 60) * value for arm, value in medians.items()}
    single = {arm: times.astype(np.float32) for arm, times in spread.items()}
    np.savez(folder / "samples" / f"{rows[0]['case_id']}.npz", **single)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a run of the given grid, in a new folder, and return the folder."""

    def make(name: str = "20261121T000000-amd-epyc-2c", **grid: Any) -> Path:
        return write_run(tmp_path_factory.mktemp("runs") / name, Grid(**grid))

    return make
