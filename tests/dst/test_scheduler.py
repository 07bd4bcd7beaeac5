from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dynadiag.dst.convert import convert_
from dynadiag.dst.groups import param_groups
from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.scheduler import Scheduler
from dynadiag.dst.schedules import Linear
from dynadiag.dst.unstructured import UnstructuredMethod
from dynadiag.nn.dynamic import DynamicLinear

from .trainings import (
    RATE,
    TOTAL,
    are_equal,
    get_diagonals,
    get_loss,
    get_topology,
    make_batch,
    make_model,
    make_optimizer,
    train,
    train_anew,
)


@final
@dataclass(frozen=True)
class Witness(UnstructuredMethod):
    """Leaves the topology alone, and writes down what it is called with.

    A list is no option, so it belongs to the class.
    """

    name: ClassVar[str] = "witness"
    calls: ClassVar[list[tuple[str, Any]]] = []

    def advance(self, layer: DynamicLinear, step: int, total: int) -> None:
        self.calls.append(("advance", step))

    def after_step(self, layer: DynamicLinear, lr: float) -> None:
        self.calls.append(("after_step", lr))

    def update(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor | None:
        self.calls.append(("update", (step, torch.rand((), generator=generator).item())))
        return super().update(layer, step, total, generator)

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        return layer.active()


@pytest.fixture
def calls() -> list[tuple[str, Any]]:
    Witness.calls.clear()
    return Witness.calls


def _watched() -> nn.Module:
    model = make_model()
    for layer in dynamic_layers(model).values():
        layer.method = Witness()
    return model


def test_what_a_method_is_called_with(calls: list[tuple[str, Any]]) -> None:
    model = _watched()
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    rates = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for step in range(TOTAL):
        get_loss(model, step).backward()
        optimizer.step()
        rates.step()  # the rate passed on is the one the step was taken with
        scheduler.step()
    steps = [step for name, step in calls if name == "advance"]
    assert steps == [step for step in [*range(TOTAL), TOTAL - 1] for _ in range(2)]
    lrs = [lr for name, lr in calls if name == "after_step"]
    assert lrs == pytest.approx([RATE * 0.5**step for step in range(TOTAL) for _ in range(2)])
    updates = [call for name, call in calls if name == "update"]
    assert [step for step, _ in updates] == [step for step in range(1, 16) for _ in range(2)]
    assert len({draw for _, draw in updates}) == len(updates)


def test_random_numbers_depend_on_the_seed_alone(calls: list[tuple[str, Any]]) -> None:
    draws: list[list[tuple[str, Any]]] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(draws))
        model = _watched()
        optimizer = make_optimizer(model)
        scheduler = Scheduler(model, optimizer, total_steps=TOTAL, seed=seed)
        calls.clear()
        train(model, optimizer, scheduler, range(3))
        draws.append([call for name, call in calls if name == "update"])
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_dense_gradients_are_asked_for_in_the_steps_that_update() -> None:
    model = make_model("rigl", every=3)
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=80)
    asked = []
    for step in range(12):
        asked.append([bool(layer.dense_gradient) for layer in dynamic_layers(model).values()])
        train(model, optimizer, scheduler, range(step, step + 1))
    assert asked == [[step in (3, 6, 9)] * 2 for step in range(12)]


def test_every_selection_follows_its_schedule_and_keeps_the_last_value() -> None:
    model = make_model("dynadiag", selection="khot", temperature=Linear(2.0, 0.1))
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    seen = []
    for step in range(TOTAL):
        seen += [float(layer.temperature) for layer in get_diagonals(model).values()]
        train(model, optimizer, scheduler, range(step, step + 1))
    expected = [Linear(2.0, 0.1)(step, TOTAL) for step in range(TOTAL) for _ in range(2)]
    assert seen == pytest.approx(expected)
    last = [float(layer.temperature) for layer in get_diagonals(model).values()]
    assert last == pytest.approx([0.1, 0.1])


def test_an_average_is_set_up_for_the_step_of_the_model() -> None:
    options: dict[str, Any] = {
        "selection": "khot",
        "sparsity_schedule": "linear",
        "initial_sparsity": 0.2,
    }
    model = make_model("dynadiag", temperature=Linear(2.0, 0.1), **options)
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=TOTAL)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.0))
    train(model, optimizer, scheduler, range(11))
    average.update_parameters(model)
    scheduler.set_up(average)
    x, _ = make_batch(0)
    assert torch.equal(average(x), model(x))
    own, other = (dynamic_layers(each)["0"] for each in (model, average))
    assert other.kept == own.kept < 16


def test_names_are_those_of_the_model_under_its_wrappers() -> None:
    plain = make_model()
    wrapped = nn.Sequential()
    wrapped.add_module("module", make_model())
    saved = Scheduler(plain, make_optimizer(plain), total_steps=TOTAL).state_dict()
    scheduler = Scheduler(wrapped, make_optimizer(wrapped), total_steps=TOTAL)
    scheduler.load_state_dict(saved)
    assert scheduler.state_dict() == saved


@pytest.mark.parametrize("attached", [False, True])
def test_a_step_after_the_end_is_refused(attached: bool) -> None:
    model = make_model()
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=2)
    if attached:
        scheduler.attach()
    for step in range(2):
        get_loss(model, step).backward()
        optimizer.step()
        if not attached:
            scheduler.step()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match=r"all 2 steps .* larger total_steps, or stop calling"):
        optimizer.step() if attached else scheduler.step()
    assert are_equal(model.state_dict(), before)


def test_after_the_end_training_goes_on_with_the_last_topology() -> None:
    model = train_anew(make_model("rigl"))
    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=1)
    train(model, optimizer, scheduler, range(1))
    before = get_topology(model)
    for step in range(3):
        get_loss(model, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert are_equal(get_topology(model), before)


@pytest.mark.parametrize(
    ("total", "options", "message"),
    [
        (40, {}, "says total_steps: 20, but this training has 40"),
        (TOTAL, {"method": "set"}, r"says method: RigL\(.*, but this training has SET\("),
        (TOTAL, {"drop": 0.5}, r"says method: RigL\(.*drop=0.3.*, but .* RigL\(.*drop=0.5"),
        (TOTAL, {"sparsity": 0.5}, "says 0: .* but this training has 120 of 240 units; convert"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    total: int, options: dict[str, Any], message: str
) -> None:
    model, other = make_model(), make_model(**options)
    saved = Scheduler(model, make_optimizer(model), total_steps=TOTAL).state_dict()
    scheduler = Scheduler(other, make_optimizer(other), total_steps=total)
    own = scheduler.state_dict()
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(saved | {"step": 7})
    assert scheduler.state_dict() == own


@pytest.mark.parametrize("step", [-1, TOTAL + 1])
def test_a_step_outside_the_training_is_not_loaded(step: int) -> None:
    model = make_model()
    scheduler = Scheduler(model, make_optimizer(model), total_steps=TOTAL)
    own = scheduler.state_dict()
    with pytest.raises(ValueError, match=f"says step: {step}, but this training has {TOTAL}"):
        scheduler.load_state_dict(own | {"step": step})
    assert scheduler.state_dict() == own


def test_a_checkpoint_of_other_layers_is_refused() -> None:
    model = make_model()
    saved = Scheduler(model, make_optimizer(model), total_steps=TOTAL).state_dict()
    shorter = model[:2]
    scheduler = Scheduler(shorter, make_optimizer(shorter), total_steps=TOTAL)
    with pytest.raises(ValueError, match=r"says 2: .* units, but this training has None"):
        scheduler.load_state_dict(saved)


def test_alpha_is_pulled_at_the_rate_of_its_own_group() -> None:
    model = make_model("dynadiag", drop=0.0, l1=0.1, learn_alpha=True)
    optimizer = torch.optim.SGD(param_groups(model, weight_decay=0.0, alpha_lr=0.5), lr=RATE)
    Scheduler(model, optimizer, total_steps=TOTAL)
    get_loss(model, 0).backward()
    expected = []
    for layer in get_diagonals(model).values():
        assert layer.alpha.grad is not None
        moved = layer.alpha - 0.5 * layer.alpha.grad
        expected.append(moved - moved.clamp(-0.5 * 0.1, 0.5 * 0.1))
    optimizer.step()
    for layer, alpha in zip(get_diagonals(model).values(), expected, strict=True):
        torch.testing.assert_close(layer.alpha, alpha)


@pytest.mark.parametrize("method", ["static", "pixelated_butterfly"])
def test_a_topology_that_rests_takes_the_same_loop(method: str) -> None:
    model = convert_(nn.Sequential(nn.Linear(32, 32), nn.ReLU()), sparsity=0.75, method=method)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = Scheduler(model, optimizer, total_steps=2)
    for _ in range(2):
        model(torch.randn(4, 32)).sum().backward()
        optimizer.step()
        scheduler.step()
    assert scheduler.last_step == 2
    with pytest.raises(RuntimeError, match="all 2 steps of this Scheduler are done"):
        scheduler.step()
