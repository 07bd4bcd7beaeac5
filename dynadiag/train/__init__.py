"""Training runs: a frozen description, a folder each, a pool for many of them.

from dynadiag.train import create, run_all

runs = [create("digits-mlp", "rigl", sparsity=0.9, seed=seed) for seed in range(5)]
run_all(runs, Place("results/runs/training"), workers=2)
"""

from __future__ import annotations

from .folder import Result, read_result
from .loop import execute
from .place import Place
from .pool import run_all
from .preset import Option, Preset, Recipe, presets
from .run import Run, create
from .slurm import submit

__all__ = [
    "Option",
    "Place",
    "Preset",
    "Recipe",
    "Result",
    "Run",
    "create",
    "execute",
    "presets",
    "read_result",
    "run_all",
    "submit",
]
