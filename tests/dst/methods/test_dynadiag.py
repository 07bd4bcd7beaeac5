from __future__ import annotations

from typing import Any

import pytest
import torch

from dynadiag.dst.build import STARTS, first_diagonals
from dynadiag.dst.methods import DynaDiag, DynaDiagPaper
from dynadiag.dst.schedules import Cosine, Linear
from dynadiag.nn import DynamicDiagonalLinear

from .toy import build, train


def make(method: DynaDiag | DynaDiagPaper, kept: int = 6) -> DynamicDiagonalLinear:
    layer = build(method, kept=kept)
    assert isinstance(layer, DynamicDiagonalLinear)
    return layer


def test_the_paper_weighs_every_diagonal_and_cools_down() -> None:
    method = DynaDiagPaper()
    layer = make(method)
    assert layer.selection == "soft_topk"
    assert layer.alpha.tolist() == pytest.approx([1 / 32] * 32)
    assert float(layer.temperature) == 5.0
    method.advance(layer, 10, 21)
    assert float(layer.temperature) == pytest.approx(2.525)
    method.advance(layer, 20, 21)
    assert float(layer.temperature) == pytest.approx(0.05)
    assert list(train(method, layer)) == []


def test_a_number_is_a_constant_temperature() -> None:
    method = DynaDiag(selection="khot", temperature=0.25)
    layer = make(method)
    method.advance(layer, 17, 20)
    assert float(layer.temperature) == 0.25


def test_a_layer_starts_at_the_first_temperature() -> None:
    layer = make(DynaDiag(selection="khot", temperature=Linear(2.0, 1.0)))
    assert float(layer.temperature) == 2.0


@pytest.mark.parametrize("selection", ["hard_topk", "khot"])
@pytest.mark.parametrize("start", STARTS)
def test_the_first_diagonals_are_those_drawn(selection: str, start: str) -> None:
    layer = make(DynaDiag(selection=selection, start=start))
    linear = torch.nn.Linear(16, 32, device="meta")
    drawn = first_diagonals(linear, 6, start, torch.Generator().manual_seed(0))
    assert torch.equal(layer.active(), drawn)


def test_the_weakest_diagonals_give_way_to_those_of_the_largest_gradient() -> None:
    method = DynaDiag(drop=0.6, grow="gradient")
    layer = make(method, kept=10)
    moved = 0
    for done in train(method, layer):
        gradient = layer.gradient_strength()
        stayed = done.before & done.after
        if done.grown.any():
            moved += 1
            assert gradient[done.grown].min() >= gradient[~done.before & ~done.grown].max()
            assert done.strength[done.dropped].max() <= done.strength[stayed].max()
    assert moved > 2


def test_candidates_are_tried_beyond_the_target_and_the_weakest_dropped() -> None:
    method = DynaDiag(drop=0.6, bound="soft")
    layer = make(method, kept=10)
    assert layer.reserved == 16
    beyond = []
    for done in train(method, layer):
        kept = done.before & done.after
        assert int(kept.sum()) == 10
        beyond.append(int(done.grown.sum()))
        assert not (done.grown & done.before).any()
        assert not layer.values[done.grown].any()
        if done.dropped.any():
            assert done.strength[done.dropped].max() <= done.strength[kept].min()
    assert beyond[0] == round(method.fraction(1, 24) * 10)
    assert beyond == sorted(beyond, reverse=True)
    assert beyond[-1] == 0 < beyond[-2]
    assert layer.kept == 10


def test_the_number_of_diagonals_follows_from_the_step() -> None:
    method = DynaDiag(drop=0.6, bound="soft")
    layer, fresh = make(method, kept=10), make(method, kept=10)
    for step, done in enumerate(train(method, layer), 1):
        assert done.step == step
        method.advance(fresh, step + 1, 24)
        assert fresh.kept == int(done.after.sum())


@pytest.mark.parametrize(("kept", "reserved"), [(1, 2), (3, 4), (30, 31), (31, 31), (32, 32)])
def test_few_or_many_diagonals_leave_room_for_what_is_not_active(kept: int, reserved: int) -> None:
    method = DynaDiag(bound="soft")
    layer = make(method, kept=kept)
    assert layer.reserved == reserved
    for done in train(method, layer):
        assert int(done.after.sum()) <= reserved
    assert layer.kept == kept


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_few_spread_diagonals_stay(kept: int) -> None:
    layer = make(DynaDiag(), kept=kept)
    first = layer.active()
    for done in train(DynaDiag(), layer):
        assert torch.equal(done.after, first)


def test_random_growth_exchanges_exactly_the_share_and_needs_no_gradient() -> None:
    method = DynaDiag(drop=0.6, grow="random")
    assert not method.needs_gradient
    for done in train(method, make(method, kept=10)):
        moved = int(method.fraction(done.step, 24) * 10)
        assert int(done.grown.sum()) == int(done.dropped.sum()) == moved


def test_without_drop_only_alpha_moves_the_selection() -> None:
    method = DynaDiag(drop=0.0, learn_alpha=True)
    assert not method.needs_gradient
    layer = make(method)
    before = layer.alpha.detach().clone()
    assert list(train(method, layer)) == []
    assert not torch.equal(layer.alpha, before)


def test_alpha_rests_where_it_is_not_learned() -> None:
    assert make(DynaDiag(learn_alpha=True)).alpha.requires_grad
    assert not make(DynaDiag(learn_alpha=False)).alpha.requires_grad


def test_l1_pulls_alpha_to_zero_and_not_beyond() -> None:
    method = DynaDiag(l1=2.0, learn_alpha=True)
    layer = make(method)
    alpha = torch.linspace(-1, 1, 32)
    with torch.no_grad():
        layer.alpha.copy_(alpha)
    method.after_step(layer, 0.1)
    expected = alpha.sign() * (alpha.abs() - 0.2).clamp(min=0)
    torch.testing.assert_close(layer.alpha.detach(), expected)


def test_without_l1_alpha_is_left_alone() -> None:
    layer = make(DynaDiag())
    before = layer.alpha.detach().clone()
    DynaDiag().after_step(layer, 0.1)
    assert torch.equal(layer.alpha, before)


@pytest.mark.parametrize(
    "options",
    [
        {"selection": "khot", "temperature": Cosine(1.0, 0.01)},
        {"selection": "khot", "drop": 0.3, "l1": 0.01},
        {"selection": "soft_topk", "drop": 0.3},
        {"selection": "hard_topk", "sparsity_schedule": "cosine", "initial_sparsity": 0.2},
    ],
)
def test_every_combination_trains_with_the_count_asked_for(options: dict[str, Any]) -> None:
    method = DynaDiag(**options, bound="hard", learn_alpha=True)
    layer = make(method)
    for done in train(method, layer):
        assert int(done.after.sum()) == int(done.before.sum()) == layer.kept
    assert layer.kept == 6
    assert bool(layer.values.isfinite().all() & layer.alpha.isfinite().all())


def test_candidates_join_a_sparsity_that_rises() -> None:
    method = DynaDiag(bound="soft", sparsity_schedule="linear", initial_sparsity=0.5)
    layer = make(method)
    counts = [int(done.after.sum()) for done in train(method, layer)]
    assert counts[0] > 6
    assert layer.kept == 6


@pytest.mark.parametrize(
    ("method", "drifts"),
    [
        (DynaDiag(), False),
        (DynaDiag(learn_alpha=True), True),
        (DynaDiag(bound="soft"), True),
        (DynaDiag(sparsity_schedule="cosine"), True),
        (DynaDiag(learn_alpha=True, selection="khot"), False),
        (DynaDiagPaper(), False),
    ],
)
def test_diagonals_drift_where_alpha_or_their_number_moves(
    method: DynaDiag | DynaDiagPaper, drifts: bool
) -> None:
    assert method.drifts(make(method)) == drifts
