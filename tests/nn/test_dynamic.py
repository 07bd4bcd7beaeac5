"""What both kinds of dynamic layer promise."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from dynadiag.nn import DynamicDiagonalLinear, DynamicLinear, MaskedDenseLinear

Maker = Callable[..., DynamicLinear]


@pytest.fixture(params=[DynamicDiagonalLinear, MaskedDenseLinear])
def make(request: pytest.FixtureRequest) -> Maker:
    torch.manual_seed(0)
    kind: Maker = request.param
    return kind


def moved(active: Tensor) -> Tensor:
    """As many units, others in part."""
    return active.flatten().roll(1).view_as(active)


def dense_gradient(layer: DynamicLinear, x: Tensor, upstream: Tensor) -> Tensor:
    """Of the weight matrix, in the shape of values."""
    grad = upstream.reshape(-1, layer.out_features).T @ x.reshape(-1, layer.in_features)
    if isinstance(layer, DynamicDiagonalLinear):
        return layer._gather(grad)
    return grad


@pytest.mark.parametrize("sizes", [(12, 12), (12, 20), (20, 12), (13, 7), (1, 1)], ids=str)
def test_backward_leaves_gradients_of_inactive_units_only_when_asked(
    make: Maker, sizes: tuple[int, int]
) -> None:
    layer = make(*sizes, sparsity=0.7, dtype=torch.float64)
    x = torch.randn(2, 3, sizes[0], dtype=torch.float64)
    for on in (True, False, True):
        layer.set_dense_gradient(on)
        layer.zero_grad()
        y = layer(x)
        upstream = torch.randn_like(y)
        y.backward(upstream)
        counts = layer.over_values(layer.active() | torch.tensor(on))
        assert layer.values.grad is not None
        torch.testing.assert_close(layer.values.grad, dense_gradient(layer, x, upstream) * counts)


def test_a_weight_read_from_outside_leaves_the_same_gradients(make: Maker) -> None:
    layer = make(20, 12, sparsity=0.7, dtype=torch.float64)
    x = torch.randn(5, 20, dtype=torch.float64)
    for on in (False, True):
        layer.set_dense_gradient(on)
        leaves = list(layer.parameters())
        upstream = torch.randn(5, 12, dtype=torch.float64)
        outside = F.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(
            torch.autograd.grad(outside, leaves, upstream),
            torch.autograd.grad(layer(x), leaves, upstream),
        )


def test_a_dense_gradient_changes_nothing_else(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    x = torch.randn(5, 12, requires_grad=True)
    results = []
    for on in (False, True):
        layer.set_dense_gradient(on)
        y = layer(x)
        others = [p for name, p in layer.named_parameters() if name != "values"]
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *others])])
    torch.testing.assert_close(results[1], results[0])


def test_accumulated_and_half_precision_dense_gradients(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    layer.set_dense_gradient(True)
    x = torch.randn(4, 12)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(x).sum().backward()
    assert layer.values.grad is not None
    assert layer.values.grad.dtype == torch.float32
    expected = 2 * dense_gradient(layer, x, torch.ones(4, 8))
    torch.testing.assert_close(layer.values.grad, expected, rtol=0.05, atol=0.1)


def test_set_active_is_what_is_active(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    before = layer.active()
    after = moved(before)
    layer.set_active(after)
    assert torch.equal(layer.active(), after)
    assert layer.kept == int(after.sum()) == layer.num_active_target
    grown, stayed = layer.over_values(after & ~before), layer.over_values(after & before)
    assert not layer.values[grown].any()
    assert layer.values[stayed].all()
    x = torch.randn(3, 12)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_grown_values_may_be_kept(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    before = layer.active()
    after = moved(before)
    kept = layer.values.detach().clone()
    layer.set_active(after, zero_grown=False)
    there = layer.over_values(after)
    assert torch.equal(layer.values[there], kept[there])


def test_fewer_units_may_stay(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.5)
    fewer = layer.active()
    fewer[tuple(fewer.nonzero()[0])] = False
    layer.set_active(fewer)
    assert torch.equal(layer.active(), fewer)
    assert layer.kept == layer.num_active_target - 1
    assert layer.sparsity > 0.5


def test_bad_topologies_change_nothing(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    state = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=r"active is torch.bool of shape \(3,\).*one entry a unit"):
        layer.set_active(torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"active is torch.float32"):
        layer.set_active(layer.active().float())
    with pytest.raises(ValueError, match="no unit left; keep at least one"):
        layer.set_active(torch.zeros_like(layer.active()))
    assert all(torch.equal(layer.state_dict()[name], state[name]) for name in state)


def test_the_active_mask_is_a_copy(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    layer.active().fill_(True)
    assert int(layer.active().sum()) == layer.kept


def test_mask_gradients(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    layer.mask_gradients()
    assert layer.values.grad is None
    layer.set_dense_gradient(True)
    layer(torch.randn(5, 12)).square().sum().backward()
    assert layer.values.grad is not None
    assert (layer.gradient_strength() > 0).all()
    kept = layer.values.grad.clone()
    layer.mask_gradients()
    counts = layer.over_values(layer.active())
    assert torch.equal(layer.values.grad, kept * counts)


def test_no_gradient_no_strength(make: Maker) -> None:
    with pytest.raises(RuntimeError, match="no gradient; run a backward first"):
        make(12, 8, sparsity=0.7).gradient_strength()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_strengths_are_float32_of_one_entry_a_unit(make: Maker, dtype: torch.dtype) -> None:
    layer = make(12, 8, sparsity=0.7, dtype=dtype)
    layer(torch.randn(5, 12, dtype=dtype)).sum().backward()
    for strength in (layer.strength(), layer.gradient_strength()):
        assert strength.dtype == torch.float32
        assert not strength.requires_grad
        assert strength.shape == layer.active().shape
        assert strength.numel() == layer.units


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_compact_computes_the_same(make: Maker, bias: bool, dtype: torch.dtype) -> None:
    layer = make(20, 12, bias, sparsity=0.83, dtype=dtype)
    layer.set_active(moved(layer.active()), zero_grown=False)
    small = layer.compact()
    x = torch.randn(3, 20, dtype=dtype)
    torch.testing.assert_close(small(x), layer(x))
    assert small.nnz == layer.nnz
    assert (small.bias is None) == (not bias)
    assert small.requested_sparsity == 0.83
    before = layer(x)
    with torch.no_grad():
        small.values.mul_(2)
    assert torch.equal(layer(x), before)


def test_neither_flag_nor_method_is_state(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    assert layer.method is None
    layer.set_dense_gradient(True)
    layer.method = "mine"
    assert {"dense_gradient", "method"}.isdisjoint(layer.state_dict())
    assert {"dense_gradient", "method"}.isdisjoint(name for name, _ in layer.named_buffers())
    layer.to(torch.float64)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.method == "mine"
        assert twin.dense_gradient.dtype == torch.bool
        assert bool(twin.dense_gradient)
        twin.set_dense_gradient(False)
        assert bool(layer.dense_gradient)


def test_a_layer_saved_whole_and_by_its_state(make: Maker) -> None:
    layer, other = make(12, 8, sparsity=0.7), make(12, 8, sparsity=0.7)
    layer.set_active(moved(layer.active()), zero_grown=False)
    x, file = torch.randn(3, 12), io.BytesIO()
    torch.save({"layer": layer}, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)["layer"](x), layer(x))
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(other.active(), layer.active())


def test_made_on_meta(make: Maker) -> None:
    layer = make(12, 8, sparsity=0.7)
    with torch.device("meta"):
        empty = make(12, 8, sparsity=0.7)
    assert empty(torch.randn(3, 12, device="meta")).shape == (3, 8)
    filled = copy.deepcopy(empty).to_empty(device="cpu")
    filled.load_state_dict(layer.state_dict())
    empty.load_state_dict(layer.state_dict(), assign=True)
    x = torch.randn(3, 12)
    for each in (filled, empty):
        each.set_dense_gradient(True)
        each(x).sum().backward()
        assert torch.equal(each(x), layer(x))


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_one_compilation_while_topology_and_flag_change(make: Maker) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model = nn.Sequential(make(12, 16, sparsity=0.7), nn.ReLU(), make(16, 8, sparsity=0.7))
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    x = torch.randn(5, 12)
    for step in range(4):
        for layer in model:
            if isinstance(layer, DynamicLinear):
                layer.set_dense_gradient(step % 2 == 1)
                layer.set_active(moved(layer.active()), zero_grown=False)
        results = []
        for call in (compiled, model):
            model.zero_grad()
            y = call(x)
            y.square().sum().backward()
            results.append([y, *(p.grad for p in model.parameters())])
        torch.testing.assert_close(results[0], results[1])
    assert counter.frame_count == 1
