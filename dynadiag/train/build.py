"""What a run trains: its data, its model made sparse, and what moves both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from dynadiag import data, models
from dynadiag.data import Dataset
from dynadiag.dst.convert import convert_
from dynadiag.dst.groups import param_groups
from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.method import Method
from dynadiag.dst.plan import Plan, plan
from dynadiag.dst.scheduler import Scheduler
from dynadiag.train.preset import Recipe, preset
from dynadiag.train.run import Run


@final
@dataclass(frozen=True)
class Parts:
    """What a run trains with.

    Attributes:
        dataset: the data.
        model: on its device, in training mode.
        optimizer: of the model.
        method: of the run; None for a dense one.
        scheduler: of the topology; None where nothing moves.
        sparsity: reached over the converted layers.
    """

    dataset: Dataset
    model: nn.Module
    optimizer: Optimizer
    method: Method | None
    scheduler: Scheduler | None
    sparsity: float


def build(run: Run, root: Path | None, device: torch.device) -> Parts:
    """Return what a run trains with, as it is before the first step.

    Args:
        run: what is trained.
        root: the folder of data that has to be fetched.
        device: of the model.

    Raises:
        ValueError: if a name, an option or the sparsity is impossible.
    """
    chosen = preset(run.preset)
    changes = dict(run.changes)
    # Text comes in windows that the model holds.
    asked = {"context": changes["context"]} if "context" in changes else {}
    if run.fold:
        asked["fold"] = run.fold
    dataset = data.load(chosen.data, root, **asked)
    torch.manual_seed(run.seed)
    model = models.create(chosen.model, **changes)
    made = None if run.method == "dense" else _convert(model, run, dataset)
    model.to(device)
    optimizer = _optimizer(model, run.recipe, device)
    scheduler = None
    if dynamic_layers(model):
        scheduler = Scheduler(model, optimizer, total_steps=run.recipe.steps, seed=run.seed)
    method, sparsity = (None, 0.0) if made is None else (made.method, made.achieved)
    return Parts(dataset, model, optimizer, method, scheduler, sparsity)


def _convert(model: nn.Module, run: Run, dataset: Dataset) -> Plan:
    """Make the model sparse in place."""
    example, _ = dataset.train.take(torch.arange(1))
    options: dict[str, Any] = run.config()["options"]
    made = plan(
        model,
        sparsity=run.sparsity,
        method=run.method,
        distribution=run.distribution,
        exclude=run.exclude,
        example=example,
        **options,
    )
    convert_(model, made, seed=run.seed)
    return made


def _optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> Optimizer:
    groups = param_groups(model, recipe.weight_decay)
    betas = (0.9, recipe.beta2)
    # One kernel a step: on tiny models the loop over parameters takes longer than the products.
    return AdamW(groups, lr=recipe.lr, betas=betas, fused=device.type in ("cpu", "cuda"))
