"""Diagonal-sparse neural network layers, trained sparse and measured honestly."""

from __future__ import annotations

from . import dst, nn
from .dst.checkpoint import load_, save
from .dst.convert import convert_
from .dst.freeze import freeze_, to_dense_
from .dst.freezing import freeze_report
from .dst.groups import param_groups
from .dst.plan import Plan, plan
from .dst.ranks import check_ranks
from .dst.registry import methods
from .dst.scheduler import Scheduler
from .dst.schedules import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Linear,
    Step,
    WarmupCosine,
)
from .formats import formats
from .functional import dense_to_diagonal, diagonal_linear, diagonal_to_dense
from .kernels import backends

__all__ = [
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "Linear",
    "Plan",
    "Scheduler",
    "Step",
    "WarmupCosine",
    "backends",
    "check_ranks",
    "convert_",
    "dense_to_diagonal",
    "diagonal_linear",
    "diagonal_to_dense",
    "dst",
    "formats",
    "freeze_",
    "freeze_report",
    "load_",
    "methods",
    "nn",
    "param_groups",
    "plan",
    "save",
    "to_dense_",
]
