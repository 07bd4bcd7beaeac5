"""Dynamic sparse training: plans, methods, schedules and what drives them."""

from __future__ import annotations

from .changes import TopologyChange
from .checkpoint import load_, save
from .convert import convert_
from .distributions import distributions
from .forgetting import Forgetting
from .freeze import freeze_, to_dense_
from .freezing import FreezeReport, LayerFreeze, freeze_report
from .groups import param_groups
from .method import Method
from .official import load_official_, official_layer
from .plan import LayerPlan, Plan, plan
from .ranks import check_ranks
from .registry import methods
from .scheduler import Scheduler
from .schedules import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Linear,
    Schedule,
    Step,
    WarmupCosine,
)
from .split import SplitLinear

__all__ = [
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "Forgetting",
    "FreezeReport",
    "LayerFreeze",
    "LayerPlan",
    "Linear",
    "Method",
    "Plan",
    "Schedule",
    "Scheduler",
    "SplitLinear",
    "Step",
    "TopologyChange",
    "WarmupCosine",
    "check_ranks",
    "convert_",
    "distributions",
    "freeze_",
    "freeze_report",
    "load_",
    "load_official_",
    "methods",
    "official_layer",
    "param_groups",
    "plan",
    "save",
    "to_dense_",
]
