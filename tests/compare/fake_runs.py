"""Made-up runs with known truths and known noise: the comparison is tested on them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dynadiag.bench.records import Run, blank_row
from dynadiag.bench.schema import SCHEMA_VERSION

Z99 = 2.5758
# Seconds a call; only their ratios matter.
TIMES = {"dense": 1e-3, "dense_again": 1e-3, "csr_torch": 5e-4, "diagonal": 2.5e-4}
SHAPES = ("768x768", "768x3072", "3072x768", "512x2048")
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.99)
HEADER: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION,
    "run_id": "r1",
    "started_utc": "2026-01-02T03:04:05+00:00",
    "mode": "quick",
    "argv": ["dynadiag", "bench"],
    "seed": 0,
    "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
    "device": {"type": "cpu", "name": "A CPU", "slug": "a-cpu-2c"},
    "host": {"kernel": "6.1", "load_average": [0.1, 0.2, 0.3]},
    "software": {"python": "3.12.1", "torch": "2.11.0"},
    "torch_flags": {"num_threads": 2},
    "env": {},
    "selection": {"arms": "", "shapes": "", "keyword": ""},
    "kernel_hash": "abcabcabcabc",
}


@dataclass(frozen=True)
class Fake:
    """What a made-up run holds.

    Attributes:
        cases: how many.
        slow: factors of the seconds of an arm, by arm, or by arm and number of the case.
        process: standard deviation of a time's logarithm from process to process.
        common: likewise, of what all times of the subject in one process share.
        half: half-width of the intervals within the process.
        status: other than ok, by arm, or by arm and case.
        bytes: the peak of an arm, by arm.
        exact: whether there are rows of bytes.
    """

    cases: int = 6
    slow: Mapping[Any, float] = field(default_factory=dict)
    process: float = 0.0
    common: float = 0.0
    half: float = 0.003
    seed: int = 0
    status: Mapping[Any, str] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    exact: bool = True
    header: Mapping[str, Any] = field(default_factory=dict)


def make_run(fake: Fake) -> Run:
    rng = np.random.default_rng(fake.seed)
    rows = [row for number in range(fake.cases) for row in case_rows(fake, number, rng)]
    return Run(HEADER | dict(fake.header), rows, Path("runs/made-up"))


def case_rows(fake: Fake, number: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    about = columns(number)
    arms = [arm for arm in TIMES if arm not in fake.without]
    times = {arm: seconds(fake, arm, number, rng) for arm in arms}
    for arm in arms:
        status = of(fake.status, arm, number, "ok")
        row = about | {"arm": arm, "format": arm.partition("_")[0]}
        if status != "ok":
            why = {"status": status, "reason": "made up"}
            yield blank_row(**row, metric="time", unit="s", stat="median", **why)
            continue
        sizes = {"weight_bytes": 4096, "peak_bytes": fake.bytes.get(arm, 8192)}
        for metric, value in sizes.items() if fake.exact else ():
            yield blank_row(**row, metric=metric, unit="B", value=value)
        time = {"metric": "time", "unit": "s", "stat": "p05", "n": 100, "flags": list(fake.flags)}
        yield blank_row(**row, **time, value=times[arm])
        if arm != "dense":
            yield blank_row(**row, **speedup(times["dense"] / times[arm], fake))
    yield blank_row(**about, metric="case", unit="1", value=1)


def columns(number: int) -> dict[str, Any]:
    shape = SHAPES[number % len(SHAPES)]
    about: dict[str, Any] = {
        "direction": "forward",
        "shape": shape,
        "batch": 197 if number < len(SHAPES) * len(SPARSITIES) else 1,
        "dtype": "float32",
        "sparsity": SPARSITIES[number // len(SHAPES) % len(SPARSITIES)],
    }
    key = hashlib.sha256(repr(about).encode()).hexdigest()[:12]
    more = {"run_id": "r1", "case_id": key, "suite": "layers", "op": "linear", "regime": "eager"}
    return about | more


def seconds(fake: Fake, arm: str, number: int, rng: np.random.Generator) -> float:
    # A/A is the same code at the same place: it knows the noise inside the process only.
    process = 0.0 if arm.startswith("dense") else fake.process
    noise = float(rng.normal(0, math.hypot(process, fake.half / Z99)))
    if arm == "diagonal" and fake.common:
        noise += float(np.random.default_rng([fake.seed, 1]).normal(0, fake.common))
    return float(TIMES[arm] * of(fake.slow, arm, number, 1.0) * math.exp(noise))


def speedup(value: float, fake: Fake) -> dict[str, Any]:
    return {
        "metric": "speedup",
        "unit": "1",
        "stat": "median_log_ratio",
        "baseline": "dense",
        "value": value,
        "ci_lo": value * math.exp(-fake.half),
        "ci_hi": value * math.exp(fake.half),
        "ci_level": 0.99,
        "n": 100,
        "flags": list(fake.flags),
    }


def of(table: Mapping[Any, Any], arm: str, number: int, default: Any) -> Any:
    return table.get((arm, number), table.get(arm, default))
