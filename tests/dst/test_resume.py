from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.registry import methods
from dynadiag.dst.scheduler import Scheduler
from dynadiag.dst.schedules import Cosine

from .trainings import TOTAL, are_equal, make_model, make_optimizer, train

# These make no dynamic layers: there is nothing for a Scheduler to do.
FIXED = {"dense", "static", "pixelated_butterfly"}
SMALL: dict[str, dict[str, Any]] = {"dsb": {"block": 4}}
LEARNED = {"learn_alpha": True, "temperature": Cosine(2.0, 0.1)}
RECIPES: list[tuple[str, dict[str, Any]]] = [
    *((name, SMALL.get(name, {})) for name in methods() if name not in FIXED),
    ("rigl", {"sparsity_schedule": "cosine"}),
    ("mest", {"bound": "soft", "gradient_weight": 1.0}),
    ("dynadiag", LEARNED | {"sparsity_schedule": "linear", "l1": 0.1}),
    ("dynadiag", LEARNED | {"selection": "khot"}),
]


class Training:
    """A model, an optimizer, its learning rates, and a Scheduler: all that is saved."""

    def __init__(self, method: str, options: dict[str, Any], seed: int) -> None:
        self.model: nn.Module = make_model(method, seed, **options)
        self.optimizer = make_optimizer(self.model, amsgrad=True)
        self.rates = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, TOTAL)
        self.scheduler = Scheduler(self.model, self.optimizer, total_steps=TOTAL)

    def run(self, step: int) -> None:
        train(self.model, self.optimizer, self.scheduler, range(step, step + 1))
        self.rates.step()

    def save(self) -> bytes:
        file = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in vars(self).items()}, file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        state = torch.load(io.BytesIO(saved), weights_only=True)
        for name, part in vars(self).items():
            part.load_state_dict(state[name])


def _states(training: Training) -> dict[str, Any]:
    derived = {
        name: {
            "active": layer.active(),
            "dense": layer.dense_gradient,
            "temperature": getattr(layer, "temperature", None),
        }
        for name, layer in dynamic_layers(training.model).items()
    }
    return derived | {name: part.state_dict() for name, part in vars(training).items()}


@pytest.mark.parametrize(("method", "options"), RECIPES)
def test_from_every_step_a_fresh_training_goes_on_as_the_first(
    method: str, options: dict[str, Any]
) -> None:
    # One step from each checkpoint, compared in full with the next checkpoint, makes a whole run.
    first = Training(method, options, seed=0)
    for step in range(TOTAL):
        again = Training(method, options, seed=99)
        again.load(first.save())
        assert are_equal(_states(again), _states(first)), step
        again.run(step)
        first.run(step)
        assert are_equal(_states(again), _states(first)), step
    over = Training(method, options, seed=99)
    over.load(first.save())
    with pytest.raises(RuntimeError, match="all 20 steps"):
        over.scheduler.step()
