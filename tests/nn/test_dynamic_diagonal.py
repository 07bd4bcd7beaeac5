from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dynadiag.nn import DynamicDiagonalLinear
from dynadiag.nn.selection_weights import SELECTIONS

SIZES = [(12, 12), (12, 20), (20, 12), (13, 7), (1, 5), (5, 1), (1, 1)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=SELECTIONS)
def make(request: pytest.FixtureRequest) -> Callable[..., DynamicDiagonalLinear]:
    def call(in_features: int, out_features: int, **options: Any) -> DynamicDiagonalLinear:
        options = {"sparsity": 0.7, "selection": request.param, "temperature": 0.01} | options
        layer = DynamicDiagonalLinear(in_features, out_features, **options)
        nn.init.normal_(layer.alpha, std=0.01)
        return layer

    return call


Maker = Callable[..., DynamicDiagonalLinear]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_it_is_a_linear_layer(make: Maker, sizes: tuple[int, int]) -> None:
    for bias in (True, False):
        layer = make(*sizes, bias=bias)
        assert (layer.bias is not None) == bias
        assert layer.weight.shape == (sizes[1], sizes[0])
        for lead in ((), (0,), (1,), (17,), (2, 3), (2, 1, 3), (3, 0)):
            x = torch.randn(*lead, sizes[0])
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@settings(max_examples=40, deadline=None)
@given(
    selection=st.sampled_from(sorted(SELECTIONS)),
    in_features=st.integers(1, 40),
    out_features=st.integers(1, 40),
    batch=st.integers(0, 5),
    sparsity=st.floats(0, 0.999),
    temperature=st.sampled_from([5.0, 0.1, 0.001]),
)
def test_any_shape(
    selection: str,
    in_features: int,
    out_features: int,
    batch: int,
    sparsity: float,
    temperature: float,
) -> None:
    layer = DynamicDiagonalLinear(
        in_features,
        out_features,
        sparsity=sparsity,
        selection=selection,
        temperature=temperature,
        dtype=torch.float64,
    )
    x = torch.randn(batch, in_features, dtype=torch.float64, requires_grad=True)
    leaves = [x, *layer.parameters()]
    y = layer(x)
    upstream = torch.randn_like(y)
    expected = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(y, expected)
    ours = torch.autograd.grad(y, leaves, upstream)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, leaves, upstream))
    assert all(gradient.isfinite().all() for gradient in ours)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
def test_dtypes(make: Maker, dtype: torch.dtype) -> None:
    layer = make(20, 12, dtype=dtype)
    x = torch.randn(4, 20, dtype=dtype, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    assert y.dtype == dtype
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {dtype}
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        y, F.linear(x, layer.weight, layer.bias), rtol=16 * eps, atol=16 * eps
    )
    layer.float()
    assert layer.temperature.dtype == torch.float32
    assert float(layer.temperature) == pytest.approx(0.01)


def test_inputs_of_any_strides(make: Maker) -> None:
    layer = make(20, 12)
    x = torch.randn(20, 5, 3)
    y = layer(x.permute(2, 1, 0))
    assert y.shape == (3, 5, 12)
    torch.testing.assert_close(y, layer(x.permute(2, 1, 0).contiguous()))
    wide = torch.randn(20)[None].expand(7, 20)
    torch.testing.assert_close(layer(wide), F.linear(wide, layer.weight, layer.bias))


def test_autocast(make: Maker) -> None:
    layer = make(20, 12)
    x = torch.randn(4, 20)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        y.sum().backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.05)
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize("sizes", [(6, 6), (7, 4), (4, 7)], ids=str)
def test_gradcheck(make: Maker, sizes: tuple[int, int]) -> None:
    layer = make(*sizes, dtype=torch.float64, temperature=0.1)
    hard = layer.selection == "hard_topk"
    alpha = layer.alpha.detach() if hard else layer.alpha

    def call(x: Tensor, values: Tensor, bias: Tensor, alpha: Tensor) -> Tensor:
        parameters = {"values": values, "bias": bias, "alpha": alpha}
        result: Tensor = torch.func.functional_call(layer, parameters, (x,))
        return result

    assert layer.bias is not None
    x = torch.randn(2, sizes[0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x, layer.values, layer.bias, alpha))


def test_straight_through_is_the_gradient_of_khot_on_the_selected() -> None:
    hard = DynamicDiagonalLinear(20, 12, sparsity=0.7, temperature=0.02)
    x, upstream = torch.randn(5, 20), torch.randn(5, 12)
    (ours,) = torch.autograd.grad(hard(x), hard.alpha, upstream)
    along = (hard._gather(upstream.T @ x) * hard.values).sum(1).detach() * hard.active()
    weights = SELECTIONS["khot"](hard.alpha, hard.num_active, hard.temperature)
    (theirs,) = torch.autograd.grad(weights, hard.alpha, along)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("sizes", [(256, 256), (128, 512), (512, 128)], ids=str)
def test_init_has_the_variance_of_a_dense_layer(sizes: tuple[int, int], sparsity: float) -> None:
    # Of 16 layers, as 99 % of 256 leaves 3 diagonals.
    x = torch.randn(128, sizes[0])
    with torch.no_grad():
        dense = sum(nn.Linear(*sizes, bias=False)(x).var() for _ in range(16))
        ours = sum(
            DynamicDiagonalLinear(*sizes, False, sparsity=sparsity)(x).var() for _ in range(16)
        )
    assert float(ours / dense) == pytest.approx(1, abs=0.05)


def test_alpha_starts_as_each_selection_wants(make: Maker) -> None:
    layer = make(300, 40)
    layer.reset_parameters()
    if layer.selection == "soft_topk":
        assert torch.equal(layer.alpha.detach(), torch.full((300,), 1 / 300))
    else:
        assert len(layer.alpha.detach().unique()) > 295
        assert float(layer.alpha.detach().abs().max()) < 0.1
        first = layer.active()
        layer.reset_parameters()
        assert not torch.equal(layer.active(), first)
    assert layer.alpha._no_weight_decay  # type: ignore[attr-defined]


def test_sizes_reported(make: Maker) -> None:
    layer = make(20, 12, sparsity=0.83)
    assert (layer.units, layer.kept, layer.num_diagonals, layer.num_active_target) == (20, 3, 3, 3)
    assert layer.nnz == 3 * 12
    assert layer.sparsity == pytest.approx(0.85)
    assert layer.requested_sparsity == 0.83
    assert layer.weight_bytes == (20 * 12 + 20) * 4
    assert layer.index_dtype is None
    assert DynamicDiagonalLinear.why_not(20, 12, 0.83) is None
    assert set(layer.state_dict()) == {"values", "alpha", "bias"}
    assert repr(layer) == (
        "DynamicDiagonalLinear(in_features=20, out_features=12, bias=True, sparsity=0.85, "
        f"selection={layer.selection})"
    )
    assert layer.config == f"backend=auto selection={layer.selection} num_diagonals=3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "got none of sparsity and num_diagonals; pass exactly one"),
        ({"sparsity": 0.5, "num_diagonals": 2}, "got both of sparsity and num_diagonals"),
        ({"sparsity": 1.0}, r"sparsity is 1\.0.*\[0, 1\)"),
        ({"num_diagonals": 7}, "num_diagonals is 7.*pass 1 to 6"),
        ({"sparsity": 0.5, "selection": "best"}, "unknown selection 'best'; known are hard_topk"),
        ({"sparsity": 0.5, "backend": "best"}, "unknown backend 'best'"),
        ({"sparsity": 0.5, "temperature": 0.0}, r"temperature is 0\.0.*positive"),
        ({"sparsity": 0.5, "temperature": float("nan")}, "temperature is nan"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DynamicDiagonalLinear(4, 6, **options)


def test_bad_input() -> None:
    layer = DynamicDiagonalLinear(4, 6, sparsity=0.5)
    with pytest.raises(ValueError, match=r"shape \(3, 5\).*in_features = 4"):
        layer(torch.randn(3, 5))
    with pytest.raises(TypeError, match=r"float64.*float32"):
        layer(torch.randn(3, 4, dtype=torch.float64))


def test_a_schedule_may_start_denser() -> None:
    layer = DynamicDiagonalLinear(20, 12, num_diagonals=4)
    x = torch.randn(3, 20)
    small = layer(x)
    with pytest.raises(ValueError, match=r"num_active is 9, but 4 .*call reserve\(9\)"):
        layer.set_num_active(9)
    with pytest.raises(ValueError, match="num_diagonals is 3, but 4 are selected"):
        layer.reserve(3)
    with pytest.raises(ValueError, match="num_diagonals is 21"):
        layer.reserve(21)
    layer.reserve(9)
    assert torch.equal(layer(x), small)
    layer.set_num_active(9)
    assert (layer.kept, layer.num_active_target, int(layer.active().sum())) == (9, 4, 9)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert int((layer.weight != 0).any(1).sum()) == 12
    layer.set_num_active(4)
    torch.testing.assert_close(layer(x), small)


def test_units_reserved_but_inactive_have_no_gradient_unless_asked() -> None:
    layer = DynamicDiagonalLinear(20, 12, num_diagonals=4)
    layer.reserve(9)
    for on in (False, True):
        layer.set_dense_gradient(on)
        layer.zero_grad()
        layer(torch.randn(3, 20)).square().sum().backward()
        assert torch.equal(layer.gradient_strength() > 0, layer.active() | torch.tensor(on))


def test_soft_selections_give_every_diagonal_a_gradient_and_keep_it() -> None:
    for selection in ("khot", "soft_topk"):
        layer = DynamicDiagonalLinear(20, 12, sparsity=0.7, selection=selection)
        layer(torch.randn(3, 20)).square().sum().backward()
        layer.mask_gradients()
        assert (layer.gradient_strength() > 0).all()


def test_strength_scales_what_is_active(make: Maker) -> None:
    layer = make(20, 12, temperature=0.02)
    weights = SELECTIONS[layer.selection](layer.alpha, layer.num_active, layer.temperature)
    norms = layer.values.norm(dim=1)
    expected = torch.where(layer.active(), weights * norms, norms)
    torch.testing.assert_close(layer.strength(), expected.detach())


def test_dropped_diagonals_keep_their_values_and_swap_alpha(make: Maker) -> None:
    layer = make(20, 12)
    layer.set_active(layer.active())  # apart by a gap from now on
    before, values, alpha = layer.active(), layer.values.detach().clone(), layer.alpha.clone()
    after = before.clone()
    goes, comes = before.nonzero()[:2, 0], (~before).nonzero()[:2, 0]
    after[goes], after[comes] = False, True
    layer.set_active(after)
    assert torch.equal(layer.active(), after)
    assert torch.equal(layer.values[goes], values[goes])
    assert torch.equal(layer.alpha.sort().values, alpha.sort().values)
    assert torch.equal(layer.alpha[comes].sort().values, alpha[goes].sort().values)
    stays = ~torch.isin(torch.arange(20), torch.cat([goes, comes]))
    assert torch.equal(layer.alpha[stays], alpha[stays])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_a_topology_is_set_where_all_alpha_are_equal(dtype: torch.dtype) -> None:
    for level in (0.0, 0.05, -3.0):
        layer = DynamicDiagonalLinear(20, 12, sparsity=0.7, dtype=dtype)
        nn.init.constant_(layer.alpha, level)
        after = layer.active().roll(9)
        layer.set_active(after)
        assert torch.equal(layer.active(), after)
        torch.testing.assert_close(
            layer.alpha, torch.full_like(layer.alpha, level), rtol=2e-2, atol=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("how", ["drawn", "set", "from dense"])
def test_a_cast_selects_the_same_diagonals(dtype: torch.dtype, how: str) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        layer = DynamicDiagonalLinear(300, 200, sparsity=0.9)
        if how == "set":
            layer.set_active(layer.active()[torch.randperm(300)])
        elif how == "from dense":
            layer = DynamicDiagonalLinear.from_linear(nn.Linear(300, 200), sparsity=0.9)
        before = layer.active()
        assert torch.equal(layer.to(dtype).active(), before)


def test_activation_checkpointing_gives_the_same_gradients(make: Maker) -> None:
    layer = make(20, 12)
    x = torch.randn(5, 20, requires_grad=True)
    leaves = [x, *layer.parameters()]
    expected = torch.autograd.grad(layer(x).square().sum(), leaves)
    y = checkpoint(layer, x, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), leaves), expected)


def test_layers_are_made_without_memory() -> None:
    layer = DynamicDiagonalLinear(20, 12, sparsity=0.7, device="meta")
    assert layer.alpha.is_meta


def test_a_topology_of_another_count_becomes_the_count() -> None:
    layer = DynamicDiagonalLinear(20, 12, num_diagonals=4)
    more = layer.active() | layer.active().roll(1) | layer.active().roll(2)
    before = layer.alpha.detach().clone()
    with pytest.raises(ValueError, match="call reserve"):
        layer.set_active(more)
    assert torch.equal(layer.alpha, before)
    layer.reserve(20)
    layer.set_active(more)
    assert torch.equal(layer.active(), more)
    assert layer.kept == int(more.sum()) > 4


def test_compact_folds_soft_weights(make: Maker) -> None:
    layer = make(20, 12, temperature=0.002)
    small = layer.compact()
    weights = SELECTIONS[layer.selection](layer.alpha, layer.num_active, layer.temperature)
    assert torch.equal(small.offsets.long(), layer.active().nonzero()[:, 0])
    torch.testing.assert_close(
        small.values, layer.values[layer.active()] * weights[layer.active()].unsqueeze(1)
    )
    assert small.backend == layer.backend


def test_from_linear_ranks_all_diagonals(make: Maker) -> None:
    linear = nn.Linear(20, 12)
    with torch.no_grad():
        linear.weight[torch.arange(12), torch.arange(12) + 5] += 3  # offset 5
    layer = DynamicDiagonalLinear.from_linear(
        linear, num_diagonals=4, selection=make(1, 1).selection
    )
    norms = layer.values.norm(dim=1)
    assert torch.equal(layer.alpha.argsort(), norms.argsort())
    assert layer.active()[5]
    assert int(norms.argmax()) == 5
    assert layer.bias is not None
    assert torch.equal(layer.bias, linear.bias)
    full = DynamicDiagonalLinear.from_linear(linear, sparsity=0.0)
    assert torch.equal(full.weight, linear.weight)


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_one_compilation_over_a_schedule(make: Maker) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    layer = make(12, 8, num_diagonals=2, sparsity=None)
    layer.reserve(9)
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    x = torch.randn(5, 12)
    for step in range(4):
        layer.set_temperature(1 / (step + 1))
        layer.set_num_active(8 - 2 * step)
        leaves = list(layer.parameters())
        ours, theirs = compiled(x), layer(x)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(
            torch.autograd.grad(ours.square().sum(), leaves),
            torch.autograd.grad(theirs.square().sum(), leaves),
        )
        optimizer.zero_grad()
        compiled(x).square().sum().backward()
        optimizer.step()
    assert counter.frame_count == 1


def test_hard_topk_learns_which_diagonals_a_teacher_has() -> None:
    teacher = torch.zeros(16, 16)
    teacher[torch.arange(16), (torch.arange(16) + 3) % 16] = 2.0
    layer = DynamicDiagonalLinear(16, 16, False, num_diagonals=4, temperature=0.01)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    x = torch.randn(256, 16)
    seen = layer.active()
    for _ in range(200):
        optimizer.zero_grad()
        F.mse_loss(layer(x), x @ teacher.T).backward()
        optimizer.step()
        seen |= layer.active()
    assert int(seen.sum()) > 4
    assert layer.active()[3 if teacher[0, 3] else 13]


def test_deepcopy_is_independent(make: Maker) -> None:
    layer = make(20, 12)
    layer(torch.randn(3, 20)).sum().backward()
    twin = copy.deepcopy(layer)
    twin.set_temperature(3.0)
    twin.set_num_active(1)
    assert float(layer.temperature) == pytest.approx(0.01)
    assert layer.kept == layer.num_active_target
