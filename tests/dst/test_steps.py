from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dynadiag.dst.changes import TopologyChange
from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.scheduler import Scheduler

from .trainings import (
    TOTAL,
    are_equal,
    get_loss,
    get_topology,
    make_batch,
    make_model,
    make_optimizer,
    train,
    train_anew,
)


@pytest.mark.parametrize("method", ["rigl", "dynadiag"])
@pytest.mark.parametrize("way", ["cleared first", "cleared in between", "attached", "closure"])
def test_every_way_to_write_the_loop_trains_alike(method: str, way: str) -> None:
    expected = train_anew(make_model(method))
    model = make_model(method)
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    if way == "attached":
        assert scheduler.attach() is scheduler
    for step in range(TOTAL):

        def evaluate(step: int = step) -> float:
            optimizer.zero_grad()
            loss = get_loss(model, step)
            loss.backward()
            return loss.item()

        if way == "closure":
            optimizer.step(evaluate)
        else:
            evaluate()
            optimizer.step()
        if way == "cleared in between":
            optimizer.zero_grad(set_to_none=True)
        if way != "attached":
            scheduler.step()
    assert scheduler.last_step == TOTAL
    assert are_equal(model.state_dict(), expected.state_dict())


def test_a_closure_may_be_named_and_evaluated_often() -> None:
    model = make_model("set")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    seen: list[TopologyChange] = []
    scheduler.register_hook(seen.append)
    for step in range(3):

        def evaluate(step: int = step) -> float:
            optimizer.zero_grad()
            loss = get_loss(model, step)
            loss.backward()
            return loss.item()

        optimizer.step(closure=evaluate)
        scheduler.step()
    assert [change.step for change in seen] == [1, 1, 2, 2]


def test_micro_batches_count_once_and_all_give_dense_gradients() -> None:
    whole = train_anew(make_model("rigl"), steps=4)
    model = make_model("rigl")
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    for step in range(4):
        x, labels = make_batch(step)
        for part in (slice(0, 2), slice(2, 4), slice(4, 8)):
            loss = nn.functional.cross_entropy(model(x[part]), labels[part], reduction="sum")
            (loss / len(x)).backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    assert scheduler.last_step == 4
    assert are_equal(get_topology(model), get_topology(whole))
    torch.testing.assert_close(model.state_dict(), whole.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("method", ["rigl", "dynadiag", "mest"])
def test_a_step_that_the_scaler_skips_does_not_count(
    method: str, fused: bool, attached: bool
) -> None:
    options: dict[str, Any] = {"gradient_weight": 10.0} if method == "mest" else {}
    expected = train_anew(make_model(method, **options), steps=6, fused=fused)
    model = make_model(method, **options)
    optimizer = make_optimizer(model, fused=fused)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    if attached:
        scheduler.attach()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in [0, 1, None, 2, None, None, 3, 4, 5]:
        before = copy.deepcopy(model.state_dict())
        asked = [bool(layer.dense_gradient) for layer in dynamic_layers(model).values()]
        loss = get_loss(model, 0) * torch.inf if step is None else get_loss(model, step)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if not attached:
            scheduler.step()
        optimizer.zero_grad()
        if step is None:
            assert are_equal(model.state_dict(), before)
            now = [bool(layer.dense_gradient) for layer in dynamic_layers(model).values()]
            assert now == asked
    assert scheduler.last_step == 6
    # Powers of two change no bit, neither of a product nor of what a method compares.
    assert are_equal(model.state_dict(), expected.state_dict())


@pytest.mark.parametrize("method", ["rigl", "dynadiag"])
def test_copies_of_the_model_go_their_own_way(method: str) -> None:
    model = make_model(method)
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=False)
    train(model, optimizer, scheduler, range(6))
    average.update_parameters(model)
    pickled = pickle.dumps(model)
    assert b"Scheduler" not in pickled
    twins = copy.deepcopy(model), pickle.loads(pickled), average.module
    states = copy.deepcopy([twin.state_dict() for twin in twins])
    assert are_equal(states[0], model.state_dict())
    assert are_equal(states[1], model.state_dict())
    train(model, optimizer, scheduler, range(6, 9))
    own = copy.deepcopy(model.state_dict())
    for twin, state in zip(twins, states, strict=True):
        assert are_equal(twin.state_dict(), state)
        train_anew(twin, steps=2)  # under an optimizer and a Scheduler of its own
        assert not are_equal(twin.state_dict(), state)
    assert are_equal(model.state_dict(), own)


def test_a_copied_optimizer_has_no_scheduler() -> None:
    model = make_model()
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    get_loss(twin, 0).backward()
    twin_optimizer.step()
    scheduler.step()
    assert scheduler.last_step == 0


def _steps_twice() -> None:
    model = make_model()
    optimizer = make_optimizer(model)
    Scheduler(model, optimizer, total_steps=TOTAL)
    for _ in range(2):
        get_loss(model, 0).backward()
        optimizer.step()


def _is_saved_too_early() -> None:
    model = make_model()
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    get_loss(model, 0).backward()
    optimizer.step()
    scheduler.state_dict()


def _clears_before_the_step() -> None:
    model = make_model()
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    for _ in range(2):
        get_loss(model, 0).backward()
        optimizer.zero_grad()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (_steps_twice, r"last step is not counted; call Scheduler.step\(\) after every"),
        (_is_saved_too_early, r"not counted yet; save after Scheduler.step\(\)"),
        (_clears_before_the_step, "rigl updates by gradients, .* clear them after optimizer.step"),
    ],
)
def test_a_loop_in_the_wrong_order_is_told(act: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        act()


def test_a_scheduler_may_be_replaced() -> None:
    model = make_model()
    optimizer = make_optimizer(model)
    first = Scheduler(model, optimizer, total_steps=TOTAL)
    first.detach()
    second = Scheduler(model, optimizer, total_steps=TOTAL)
    train(model, optimizer, second, range(2))
    assert (first.last_step, second.last_step) == (0, 2)
