from __future__ import annotations

from typing import Any

import pytest

from dynadiag.dst.method import Method
from dynadiag.dst.registry import method
from dynadiag.nn import DynamicDiagonalLinear

from .methods.toy import TOTAL, build, train

GRADUAL: dict[str, Any] = {"sparsity_schedule": "linear", "initial_sparsity": 0.25}


@pytest.mark.parametrize("name", ["rigl", "set"])
@pytest.mark.parametrize("initial", [0.0, 0.25])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_entries_fall_from_the_initial_count_to_the_last(
    name: str, schedule: str, initial: float
) -> None:
    ruling = method(name, sparsity_schedule=schedule, initial_sparsity=initial)
    layer = build(ruling, kept=100)
    counts = [layer.kept] + [update.layer.kept for update in train(ruling, layer)]
    assert counts[0] == round((1 - initial) * 512)
    assert counts[-1] == layer.num_active_target == 100
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 10


def test_linear_falls_evenly_and_cosine_slowly_at_first() -> None:
    halfway = []
    for schedule in ("linear", "cosine"):
        ruling = method("rigl", sparsity_schedule=schedule, initial_sparsity=0.0, every=1, until=1)
        layer = build(ruling, kept=112)
        halfway.append([update.layer.kept for update in train(ruling, layer, total=21)])
    linear, cosine = halfway
    assert linear == [512 - 20 * step for step in range(1, 21)]
    assert cosine[4] > linear[4]
    assert cosine[9] == linear[9] == 312
    assert cosine[14] < linear[14]


def diagonals(**options: Any) -> tuple[Method, DynamicDiagonalLinear]:
    ruling = method("dynadiag", **GRADUAL, **options)
    layer = build(ruling, kept=6)
    assert isinstance(layer, DynamicDiagonalLinear)
    return ruling, layer


@pytest.mark.parametrize("drop", [0.0, 0.3])
@pytest.mark.parametrize("selection", ["hard_topk", "khot"])
def test_diagonals_fall_with_the_step_whether_or_not_they_are_exchanged(
    selection: str, drop: float
) -> None:
    ruling, layer = diagonals(selection=selection, drop=drop)
    assert layer.kept == int(layer.active().sum()) == 24
    counts = []
    for step in range(TOTAL):
        ruling.advance(layer, step, TOTAL)
        counts.append(layer.kept)
    assert counts[0] == 24
    assert counts[-6:] == [6] * 6
    assert counts == sorted(counts, reverse=True)


def test_a_denser_start_is_drawn_with_its_own_fan_in() -> None:
    _, layer = diagonals()
    bound = (32 / (24 * 16)) ** 0.5
    assert 0.9 * bound < float(layer.values.detach().abs().max()) <= bound


def test_a_layer_that_ends_denser_than_the_start_has_one_count() -> None:
    ruling = method("rigl", **GRADUAL)
    layer = build(ruling, kept=450)
    assert layer.kept == 450
    assert all(update.layer.kept == 450 for update in train(ruling, layer))
