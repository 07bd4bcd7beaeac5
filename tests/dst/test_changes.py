from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dynadiag.dst.changes import TopologyChange
from dynadiag.dst.scheduler import Scheduler

from .trainings import RATE, TOTAL, get_diagonals, get_topology, make_model, make_optimizer, train


def _drifting() -> tuple[nn.Module, torch.optim.Optimizer, Scheduler]:
    """Diagonals that only alpha moves, at a rate at which it does."""
    model = make_model("dynadiag", drop=0.0, learn_alpha=True)
    alphas = [layer.alpha for layer in get_diagonals(model).values()]
    rest = [each for each in model.parameters() if all(each is not alpha for alpha in alphas)]
    groups: list[dict[str, Any]] = [{"params": alphas, "lr": 10.0}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9)
    return model, optimizer, Scheduler(model, optimizer, total_steps=TOTAL)


def test_diagonals_that_drift_out_stop_moving() -> None:
    model, optimizer, scheduler = _drifting()
    changes: list[TopologyChange] = []
    scheduler.register_hook(changes.append)
    for step in range(TOTAL):
        before = get_topology(model)
        stored = {
            name: layer.values.detach().clone() for name, layer in get_diagonals(model).items()
        }
        train(model, optimizer, scheduler, range(step, step + 1))
        for name, layer in get_diagonals(model).items():
            idle = ~before[name]
            assert torch.equal(layer.values[idle], stored[name][idle])
            moved = before[name] ^ layer.active()
            for parameter in (layer.values, layer.alpha):
                assert not optimizer.state[parameter]["momentum_buffer"][moved].any()
            told = [c.changed for c in changes if c.step == step and c.layer == name]
            assert told == [int(moved.sum())] * bool(moved.any())
    assert {change.cause for change in changes} == {"drift"}


def test_listeners_hear_of_every_update_until_removed() -> None:
    model = make_model("set")
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    seen: list[TopologyChange] = []
    handle = scheduler.register_hook(seen.append)
    train(model, optimizer, scheduler, range(1))
    before = get_topology(model)
    train(model, optimizer, scheduler, range(1, 2))
    after = get_topology(model)
    handle.remove()
    train(model, optimizer, scheduler, range(2, 3))
    assert seen == [
        TopologyChange(
            step=1,
            layer=name,
            cause="update",
            temperature=None,
            kept=int(after[name].sum()),
            changed=int((before[name] ^ after[name]).sum()),
            overlap=float((before[name] & after[name]).sum() / before[name].sum()),
        )
        for name in ("0", "2")
    ]
    assert all(change.changed > 0 for change in seen)
