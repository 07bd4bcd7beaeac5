from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from dynadiag.dst.scheduler import Scheduler
from dynadiag.dst.schedules import Cosine

from .trainings import TOTAL, get_topology, make_model, make_optimizer, train

LEARNED = {"learn_alpha": True, "temperature": Cosine(2.0, 0.1)}
RECIPES: list[tuple[str, dict[str, Any]]] = [
    ("rigl", {"sparsity_schedule": "cosine"}),
    ("mest", {"bound": "soft"}),
    ("dynadiag", {}),
    ("dynadiag", LEARNED | {"sparsity_schedule": "linear", "l1": 0.1}),
    ("dynadiag", LEARNED | {"selection": "khot"}),
    ("dynadiag_paper", {}),
]


@pytest.mark.parametrize(("method", "options"), RECIPES)
def test_a_whole_schedule_is_one_compilation_and_trains_alike(
    method: str, options: dict[str, Any]
) -> None:
    torch._dynamo.reset()
    eager, model = make_model(method, **options), make_model(method, **options)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = cast(nn.Module, torch.compile(model, backend=counter, fullgraph=True))
    for trained in (eager, compiled):
        optimizer = make_optimizer(trained)
        scheduler = Scheduler(trained, optimizer, total_steps=TOTAL)
        train(trained, optimizer, scheduler, range(TOTAL))
    assert counter.frame_count == 1
    for name, active in get_topology(eager).items():
        assert torch.equal(get_topology(model)[name], active)
    torch.testing.assert_close(model.state_dict(), eager.state_dict(), rtol=1e-4, atol=1e-6)
