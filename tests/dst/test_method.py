from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from dynadiag.dst.method import Method
from dynadiag.dst.registry import method, methods
from dynadiag.nn import SparseLinear
from dynadiag.nn.dynamic import DynamicLinear

from .methods.toy import TOTAL, build, train

SPARSE = [name for name in methods() if name != "dense"]
FIXED = ["static", "pixelated_butterfly"]
DYNAMIC = [name for name in SPARSE if name not in FIXED]
MOVING = [name for name in DYNAMIC if name not in ("static_unstructured", "dynadiag_paper")]
# Blocks that fit the toy layer.
OPTIONS: dict[str, dict[str, Any]] = {"dsb": {"block": 4}}


def make(name: str, **options: Any) -> Method:
    return method(name, **OPTIONS.get(name, {}), **options)


def kept_for(ruling: Method, sparsity: float = 0.7, out: int = 32, size: int = 16) -> int:
    return max(1, round((1 - sparsity) * out * size / ruling.granularity(out, size)))


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_takes_the_place_of_the_dense_one(name: str, bias: bool) -> None:
    ruling = make(name)
    linear = nn.Linear(16, 32, bias=bias, dtype=torch.float64)
    before = copy.deepcopy(linear.state_dict())
    layer = ruling.build(linear, kept_for(ruling), torch.Generator())
    assert isinstance(layer, SparseLinear)
    assert layer.nnz == kept_for(ruling) * ruling.granularity(32, 16)
    assert layer(torch.randn(2, 16, dtype=torch.float64)).shape == (2, 32)
    assert (layer.bias is not None) == bias
    if layer.bias is not None:
        assert torch.equal(layer.bias, linear.bias)
        assert layer.bias is not linear.bias
    assert all(torch.equal(value, before[key]) for key, value in linear.state_dict().items())


@pytest.mark.parametrize("name", [name for name in SPARSE if name != "dynadiag_paper"])
@pytest.mark.parametrize(("out", "size"), [(128, 128), (256, 64), (64, 256)])
def test_outputs_start_with_the_variance_of_a_dense_layer(name: str, out: int, size: int) -> None:
    torch.manual_seed(0)
    ruling = make(name)
    linear = nn.Linear(size, out, bias=False)
    layer = ruling.build(linear, kept_for(ruling, 0.9, out, size), torch.Generator())
    x = torch.randn(256, size)
    with torch.no_grad():
        assert float(layer(x).var()) == pytest.approx(float(linear(x).var()), rel=0.15)


@pytest.mark.parametrize("name", [name for name in SPARSE if name != "pixelated_butterfly"])
def test_the_generator_alone_draws_the_topology(name: str) -> None:
    ruling = make(name, **({"selection": "khot"} if name == "dynadiag_paper" else {}))
    linear = nn.Linear(16, 32)
    patterns = []
    for seed in (1, 1, 2):
        layer = ruling.build(linear, kept_for(ruling), torch.Generator().manual_seed(seed))
        assert isinstance(layer, SparseLinear)
        active = layer.active() if isinstance(layer, DynamicLinear) else layer.weight != 0
        patterns.append(active)
    assert torch.equal(patterns[0], patterns[1])
    assert not torch.equal(patterns[0], patterns[2])


@pytest.mark.parametrize("name", DYNAMIC)
def test_every_update_reports_what_it_changed_and_starts_new_units_at_zero(name: str) -> None:
    ruling = make(name)
    layer = build(ruling, kept=kept_for(ruling))
    updates = 0
    for update in train(ruling, layer):
        updates += 1
        assert update.changed is not None
        assert torch.equal(update.changed, update.before ^ update.after)
        values = layer.values.detach()
        grown = layer.over_values(update.grown)
        stayed = layer.over_values(update.before & update.after)
        assert not values[grown].any()
        assert torch.equal(values[stayed], update.values[stayed])
    assert (updates > 0) == (name in MOVING)
    assert layer.nnz <= kept_for(ruling) * ruling.granularity(32, 16)


@pytest.mark.parametrize("name", [name for name in MOVING if name != "srigl"])
def test_the_count_is_exact_after_every_update(name: str) -> None:
    ruling = make(name)
    layer = build(ruling, kept=kept_for(ruling))
    moved = 0
    for update in train(ruling, layer):
        assert int(update.after.sum()) == layer.kept == layer.num_active_target
        moved += int(update.grown.sum())
    assert moved > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MOVING)
def test_a_card_starts_as_the_cpu_does_and_keeps_the_count(name: str) -> None:
    ruling = make(name)
    layer, other = build(ruling, device="cuda"), build(ruling)
    assert layer.active().is_cuda
    assert torch.equal(layer.active().cpu(), other.active())
    for update in train(ruling, layer):
        assert update.changed is not None
        assert torch.equal(update.changed, update.before ^ update.after)
        assert layer.kept <= layer.num_active_target


@pytest.mark.parametrize("name", MOVING)
def test_training_repeats_to_the_last_bit(name: str) -> None:
    states = []
    for _ in range(2):
        layer = build(make(name))
        list(train(make(name), layer))
        states.append(layer.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", DYNAMIC)
def test_the_compact_layer_computes_the_same_with_what_is_kept(name: str) -> None:
    ruling = make(name, **({"selection": "khot"} if name == "dynadiag_paper" else {}))
    layer = build(ruling, kept=kept_for(ruling))
    list(train(ruling, layer))
    if name == "dynadiag_paper":  # hard enough that nothing but the K diagonals counts
        layer.get_parameter("alpha").data.mul_(1e4)
    compact = ruling.compact(layer)
    assert isinstance(compact, SparseLinear)
    assert not isinstance(compact, DynamicLinear)
    assert compact.nnz == layer.nnz
    assert compact.requested_sparsity == layer.requested_sparsity
    torch.testing.assert_close(compact.weight, layer.weight, atol=1e-6, rtol=1e-6)
    assert torch.equal(compact.bias, layer.bias)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in SPARSE if name != "dsb"])
def test_a_sparsity_below_half_a_unit_is_refused(name: str) -> None:
    ruling = make(name)
    unit = ruling.granularity(32, 16)
    assert ruling.why_not(32, 16, 1 - 0.51 * unit / 512) is None
    assert ruling.why_not(32, 16, 0.0) is None
    reason = ruling.why_not(32, 16, 1 - 0.49 * unit / 512)
    assert reason is not None
    assert f"the smallest unit of {name}, {unit} weights" in reason


@pytest.mark.parametrize("name", MOVING)
def test_inactive_gradients_are_asked_for_only_where_growth_reads_them(name: str) -> None:
    reads = {"rigl", "srigl", "dsb", "dynadiag"}
    assert make(name).needs_gradient == (name in reads)


def test_no_training_sees_an_update_without_gradients_before_it() -> None:
    for name in MOVING:
        assert not make(name).updates(0, TOTAL)
        assert not make(name).updates(TOTAL, TOTAL)
        assert any(make(name).updates(step, 2) for step in range(2))


def test_dense_leaves_the_layer_alone() -> None:
    linear = nn.Linear(3, 5)
    dense = method("dense")
    assert dense.build(linear, 1, torch.Generator()) is linear
    assert dense.granularity(5, 3) == 15
    assert dense.why_not(5, 3, 0.5) == "the method dense leaves every layer dense"


def test_drawing_units_needs_no_more_than_there_are() -> None:
    ruling = make("static")
    with pytest.raises(ValueError, match="count is 33, but there are 32 units"):
        ruling.build(nn.Linear(16, 32), 33, torch.Generator())
