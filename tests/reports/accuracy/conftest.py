"""A made-up run of the accuracy suite, its rows written by the suite itself.

The suites are not installed, and the root of the repository is on no path: make them a package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dynadiag.train.folder import Result
from dynadiag.train.run import create

package = ModuleType("suites")
package.__path__ = [str(Path(__file__).resolve().parents[3] / "suites")]
sys.modules.setdefault("suites", package)
from suites.accuracy.rows import Arm, case_rows  # noqa: E402
from suites.accuracy.search import Candidate  # noqa: E402

RUN_ID = "0192bbbb-0000-7000-8000-000000000000"
# Error of each method at 90 % against that of unstructured RigL.
METHODS = {
    "dense": 0.6,
    "static_unstructured": 1.15,
    "set": 1.05,
    "rigl": 1.0,
    "mest": 1.02,
    "srigl": 1.12,
    "dsb": 1.5,
    "pixelated_butterfly": 1.8,
    "static": 1.2,
    "diag_heuristic": 1.16,
    "dynadiag": 0.97,
    "dynadiag_paper": 1.3,
}
# Relative change of the output by freezing, of methods where it is not nothing.
FREEZING = {"dynadiag_paper": 0.4}
ERRORS = {"digits-mlp": 0.03, "digits-vit": 0.05, "digits-mixer": 0.04}
HEADER = {
    "schema_version": "1.1",
    "run_id": RUN_ID,
    "started_utc": "2026-11-21T09:00:00Z",
    "argv": ["dynadiag", "accuracy", "--mode", "full"],
    "seed": 0,
    "mode": "full",
    "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "branch": "main", "dirty": False},
    "device": {"type": "cpu", "name": "AMD EPYC 9B45", "cores": 2},
    "host": {"cpu": "AMD EPYC 9B45", "cores": 2},
    "software": {"python": "3.11.9", "torch": "2.13.0"},
    "torch_flags": {"num_threads": 1},
    "env": {},
}


@dataclass(frozen=True)
class Study:
    """What the made-up run trained."""

    tasks: tuple[str, ...] = ("digits-mlp", "digits-vit", "digits-mixer", "text-gpt")
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.99)
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: int = 5
    failing: tuple[str, ...] = ()
    looks: int = 0


def outcome(task: str, method: str, sparsity: float, noise: float) -> dict[str, float]:
    """Accuracy and loss of one training."""
    harder = 1.0 if method == "dense" else (0.1 / (1 - sparsity)) ** 0.35
    factor = METHODS[method] * harder * (1 + 0.06 * noise)
    if task in ERRORS:
        correct = round(360 * (1 - ERRORS[task] * factor)) / 360
        return {"accuracy": correct, "loss": 3 * ERRORS[task] * factor}
    return {"accuracy": 0.3, "loss": 2.2 + 0.05 * (factor - 1)}


def an_arm(study: Study, task: str, method: str, sparsity: float, rng: Any) -> Arm:
    if method in study.failing:
        return Arm(method, [], failure="every seed failed; see the logs of the trainings")
    reached = 0.0 if method == "dense" else sparsity
    runs = []
    for seed in range(study.seeds):
        shared = np.random.default_rng(seed).normal()
        found = outcome(task, method, sparsity, 0.7 * shared + 0.7 * rng.normal())
        run = create(task, method, sparsity=reached, seed=seed, steps=800, lr=3e-3)
        change = FREEZING.get(method, 0.0)
        before = {**found, "accuracy": found["accuracy"] + change / 10}
        runs.append((run, Result(Path(), 800, 6.0, reached, found, found, before, change)))
    tried = [Candidate(rate, 0.3 + rate, 0.95 - rate, 1) for rate in (1e-3, 3e-3, 1e-2)]
    return Arm(method, runs, tried)


def training_rows(study: Study) -> Iterator[dict[str, Any]]:
    for task in study.tasks:
        for sparsity in study.sparsities:
            arms = []
            for method in study.methods:
                # Dense is the same runs at every sparsity.
                place = 0 if method == "dense" else round(100 * sparsity)
                rng = np.random.default_rng([place, len(task), study.methods.index(method)])
                arms.append(an_arm(study, task, method, sparsity, rng))
            for row in case_rows(task, sparsity, arms):
                yield row | {"run_id": RUN_ID}


def write_traces(folder: Path, looks: int) -> None:
    """Topologies of a 256 x 64 layer: three methods on diagonals and one on entries."""
    (folder / "topology").mkdir()
    rng = np.random.default_rng(0)
    step = np.arange(1, looks + 1) * 10
    for place, method in enumerate(("dynadiag", "dynadiag_paper", "diag_heuristic")):
        walk = rng.normal(0, 1, (looks, 256)) / (2 + np.arange(looks)[:, None])
        alpha = (rng.normal(0, 0.3, 256) + walk.cumsum(axis=0) * (1 + place)).astype(np.float32)
        active = np.argsort(np.argsort(-alpha, axis=1), axis=1) < 26
        about: dict[str, Any] = {"layer": "layers.0", "out_features": 256, "in_features": 64}
        path = folder / "topology" / f"digits-mlp-{method}-s90.npz"
        np.savez_compressed(path, step=step, active=active, alpha=alpha, **about)
    moved = rng.random((looks, 256, 64)) / (3 + np.arange(looks)[:, None, None])
    score = moved.cumsum(axis=0)
    active = score > np.quantile(score, 0.9, axis=(1, 2), keepdims=True)
    path = folder / "topology" / "digits-mlp-rigl-s90.npz"
    np.savez_compressed(path, step=step, active=active, layer="layers.0")


def write_training(folder: Path, study: Study) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(HEADER))
    lines = [json.dumps(row) + "\n" for row in training_rows(study)]
    (folder / "rows.jsonl").write_text("".join(lines))
    if study.looks:
        write_traces(folder, study.looks)
    return folder


@pytest.fixture(scope="session")
def make_training(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a run of the accuracy suite in a new folder, and return the folder."""

    def make(name: str = "20261121T090000-amd-epyc-2c-accuracy", **study: Any) -> Path:
        return write_training(tmp_path_factory.mktemp("runs") / name, Study(**study))

    return make
