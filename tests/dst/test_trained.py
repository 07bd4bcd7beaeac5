from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dynadiag.dst.freeze import freeze_
from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.scheduler import Scheduler

from .trainings import (
    RATE,
    TOTAL,
    get_topology,
    make_model,
    make_optimizer,
    train,
)


def _scheduler(change: str) -> None:
    model = make_model()
    parameters = [*model.parameters()]
    total = TOTAL
    if change == "no steps":
        total = 0
    elif change == "half a step":
        total = 2.5  # type: ignore[assignment]
    elif change == "dense":
        model = nn.Sequential(nn.Linear(2, 2))
    elif change == "by hand":
        dynamic_layers(model)["2"].method = dynamic_layers(model)["0"].method = None
    elif change == "mixed":
        dynamic_layers(model)["2"].method = dynamic_layers(make_model("set"))["0"].method
    elif change == "static":
        model = make_model("static")
        parameters = [*model[4].parameters()]
    elif change == "missing":
        parameters = [p for p in parameters if p is not dynamic_layers(model)["2"].values]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    if change == "twice":
        Scheduler(model, optimizer, total_steps=total)
    Scheduler(model, optimizer, total_steps=total)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no steps", "total_steps is 0, but a training has a whole number of steps, at least 1"),
        ("half a step", "total_steps is 2.5, but a training has a whole number"),
        ("dense", "no sparse layer, .* convert it first with dynadiag.convert_"),
        ("by hand", "layer 0 has no method; convert .* or set layer.method"),
        ("mixed", r"layer 0 is trained by RigL\(.*, but 2 by SET\(.* with one method"),
        ("static", r"0.bias is not in the optimizer \(4 such"),
        ("missing", r"2.values is not in the optimizer \(1 such .* make the optimizer after"),
        ("twice", r"has a Scheduler already, .* call detach\(\)"),
    ],
)
def test_what_does_not_fit_is_refused(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _scheduler(change)


def test_dense_goes_through_the_same_calls() -> None:
    model = make_model("dense")
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    train(model, optimizer, scheduler, range(3))
    assert scheduler.last_step == 3
    assert not any(map(torch.equal, before, model.parameters()))
    freeze_(model)
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in "024")


def test_steps_counted_by_numpy_are_a_number() -> None:
    model = make_model()
    scheduler = Scheduler(model, make_optimizer(model), total_steps=np.int64(TOTAL))  # type: ignore[arg-type]
    assert type(scheduler.state_dict()["total_steps"]) is int


def test_layers_without_a_gradient_are_left_alone() -> None:
    model = make_model("rigl")
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    train(model, optimizer, scheduler, range(3))
    before = get_topology(model)
    dynamic_layers(model)["0"].values.requires_grad_(False)
    train(model, optimizer, scheduler, range(3, 6))
    after = get_topology(model)
    assert torch.equal(before["0"], after["0"])
    assert not torch.equal(before["2"], after["2"])
