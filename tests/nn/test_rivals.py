"""What every rival promises, checked against the dense layer it stands for."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from dynadiag.nn.base import SparseLinear
from dynadiag.nn.block import BlockLinear
from dynadiag.nn.condensed import CondensedLinear
from dynadiag.nn.csr import CSRLinear
from dynadiag.nn.masked_dense import MaskedDenseLinear
from dynadiag.nn.nm import NMLinear
from dynadiag.nn.tuned import TunedSparseLinear

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 5e-2,
    torch.float16: 5e-3,
}


@dataclass(frozen=True)
class Rival:
    layer: type[SparseLinear]
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, in_features: int, out_features: int, **options: Any) -> SparseLinear:
        options = {"sparsity": 0.75, **self.options, **options}
        return self.layer(in_features, out_features, **options)


RIVALS = {
    "csr": Rival(CSRLinear),
    "nm": Rival(NMLinear),
    "nm_explicit": Rival(NMLinear, {"sparsity": None, "n": 2, "m": 8}),
    "block2": Rival(BlockLinear, {"block": 2}),
    "block4": Rival(BlockLinear, {"block": 4}),
    "condensed": Rival(CondensedLinear),
    "masked_dense": Rival(MaskedDenseLinear),
}


@pytest.fixture(params=list(RIVALS.values()), ids=list(RIVALS))
def rival(request: pytest.FixtureRequest) -> Rival:
    torch.manual_seed(0)
    assert isinstance(request.param, Rival)
    return request.param


def dense_gradients(
    layer: SparseLinear, x: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, and gradients of x, weight and bias, of the dense layer in float64."""
    assert layer.bias is not None
    leaves = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
    y = functional.linear(*leaves)
    grad_x, grad_weight, grad_bias = torch.autograd.grad(y, leaves, g.double())
    return y.detach(), grad_x, grad_weight, grad_bias


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(
        actual.detach().double(), expected, rtol=0, atol=TOLERANCE[dtype] * scale
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3), (2, 1, 17), (0,), (3, 0)], ids=str)
def test_output_and_gradients_equal_dense(
    rival: Rival, lead: tuple[int, ...], dtype: torch.dtype
) -> None:
    layer = rival(32, 24, dtype=dtype)
    x = torch.randn(*lead, 32, dtype=dtype, requires_grad=True)
    y = layer(x)
    g = torch.randn_like(y)
    y.backward(g)
    expected, grad_x, grad_weight, grad_bias = dense_gradients(layer, x, g)
    assert y.shape == (*lead, 24)
    assert y.dtype == dtype
    assert x.grad is not None
    assert layer.values.grad is not None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    assert_close(y, expected, dtype)
    assert_close(x.grad, grad_x, dtype)
    assert_close(layer.values.grad, layer._gather(grad_weight), dtype)
    assert_close(layer.bias.grad, grad_bias, dtype)


@pytest.mark.parametrize(("in_features", "out_features"), [(8, 8), (8, 16), (16, 8)])
def test_gradcheck(rival: Rival, in_features: int, out_features: int) -> None:
    layer = rival(in_features, out_features, dtype=torch.float64)
    assert layer.bias is not None

    def call(x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        parameters = {"values": values, "bias": bias}
        result: Tensor = torch.func.functional_call(layer, parameters, (x,))
        return result

    x = torch.randn(2, in_features, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x, layer.values, layer.bias))


def test_without_bias(rival: Rival) -> None:
    layer = rival(16, 8, bias=False)
    x = torch.randn(3, 16)
    assert layer.bias is None
    torch.testing.assert_close(layer(x), x @ layer.weight.t())


def test_same_output_without_grad(rival: Rival) -> None:
    layer = rival(16, 8)
    x = torch.randn(3, 16)
    with torch.no_grad():
        y, none = layer(x), layer(x[:0])
    torch.testing.assert_close(y, functional.linear(x, layer.weight, layer.bias))
    assert none.shape == (0, 8)


def test_strided_x_and_strided_gradient(rival: Rival) -> None:
    layer = rival(16, 8)
    wide = torch.randn(16, 2, 5, requires_grad=True)
    x = wide.transpose(0, 2)[:, ::2]
    layer(x).permute(2, 0, 1).sum(0, keepdim=True).expand(3, -1, -1).sum().backward()
    expected = functional.linear(x, layer.weight, layer.bias).sum() * 3
    (grad,) = torch.autograd.grad(expected, wide)
    assert wide.grad is not None
    torch.testing.assert_close(wide.grad, grad)


def test_output_may_be_changed_in_place(rival: Rival) -> None:
    layer = rival(16, 8)
    x = torch.randn(4, 16, requires_grad=True)
    torch.autograd.backward(nn.functional.relu(layer(x), inplace=True).sum())
    expected = functional.linear(x, layer.weight, layer.bias).relu().sum()
    (grad,) = torch.autograd.grad(expected, x)
    torch.testing.assert_close(x.grad, grad)


def test_frozen_parts_get_no_gradient(rival: Rival) -> None:
    layer = rival(16, 8)
    layer.values.requires_grad_(False)
    x = torch.randn(3, 16)
    layer(x).sum().backward()
    assert layer.values.grad is None
    assert layer.bias is not None
    torch.testing.assert_close(layer.bias.grad, torch.full((8,), 3.0))


def test_autocast(rival: Rival) -> None:
    layer = rival(32, 16)
    x = torch.randn(4, 32, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    torch.autograd.backward(y.float().sum())
    assert y.dtype == torch.bfloat16
    assert layer.values.grad is not None
    assert layer.values.grad.dtype == torch.float32
    assert_close(y, dense_gradients(layer, x, torch.ones(4, 16))[0], torch.bfloat16)


def test_weight_is_differentiable_in_values(rival: Rival) -> None:
    layer = rival(16, 8)
    g = torch.randn(8, 16)
    torch.autograd.backward((layer.weight * g).sum())
    assert layer.values.grad is not None
    torch.testing.assert_close(layer.values.grad, layer._gather(g))


def test_sizes_reported(rival: Rival) -> None:
    layer = rival(32, 24)
    kept = int((layer.weight != 0).sum())
    assert layer.nnz == kept == 192
    assert layer.sparsity == layer.requested_sparsity == 0.75
    assert str(layer).endswith(")")
    assert "sparsity=0.75" in str(layer)


def test_pattern_follows_torch_seed(rival: Rival) -> None:
    torch.manual_seed(3)
    first = rival(32, 32).weight
    torch.manual_seed(3)
    second = rival(32, 32).weight
    third = rival(32, 32).weight
    assert torch.equal(first, second)
    assert not torch.equal(first != 0, third != 0)


def test_init_scales_to_the_fan_in_kept(rival: Rival) -> None:
    layer = rival(256, 256)
    bound = (256 / layer.nnz) ** 0.5
    largest = float(layer.weight.detach().abs().max())
    assert 0.99 * bound < largest <= bound
    assert layer.bias is not None
    assert 0.9 / 16 < float(layer.bias.detach().abs().max()) <= 1 / 16


def test_strict_state_dict_round_trip(rival: Rival) -> None:
    layer, other = rival(32, 16), rival(32, 16)
    x = torch.randn(3, 32, requires_grad=True)
    other(x).sum().backward()
    other.load_state_dict(layer.state_dict(), strict=True)
    x.grad = None
    other(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(other.weight, layer.weight)
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, -1))


def test_deepcopy_is_independent(rival: Rival) -> None:
    layer = rival(16, 8)
    x = torch.randn(3, 16)
    layer(x).sum().backward()
    twin = copy.deepcopy(layer)
    before = layer(x)
    with torch.no_grad():
        twin.values.mul_(2)
    assert torch.equal(layer(x), before)
    torch.testing.assert_close(twin(x), functional.linear(x, twin.weight, twin.bias))


def test_change_of_dtype(rival: Rival) -> None:
    layer = rival(16, 8)
    index_dtype = layer.index_dtype
    layer(torch.randn(3, 16)).sum().backward()
    layer.double()
    x = torch.randn(3, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x), functional.linear(x, layer.weight, layer.bias))
    assert layer.index_dtype == index_dtype


def test_made_on_meta_then_loaded(rival: Rival) -> None:
    layer = rival(16, 8)
    empty = rival(16, 8, device="meta")
    empty.load_state_dict(layer.state_dict(), assign=True)
    x = torch.randn(3, 16)
    torch.testing.assert_close(empty(x), layer(x))


def test_foreign_pattern_is_refused(rival: Rival) -> None:
    layer = rival(16, 8)
    before = layer.weight
    state = {name: torch.full_like(t, 100) for name, t in layer.state_dict().items()}
    with pytest.raises(RuntimeError, match="no valid pattern"):
        layer.load_state_dict(state)
    assert torch.equal(layer.weight, before)


def test_to_linear(rival: Rival) -> None:
    layer = rival(16, 8)
    linear = layer.to_linear()
    x = torch.randn(3, 16)
    torch.testing.assert_close(linear(x), layer(x))
    with torch.no_grad():
        linear.weight.zero_()
    assert int((layer.weight != 0).sum()) == layer.nnz


def test_from_linear_inverts_to_linear(rival: Rival) -> None:
    layer = rival(16, 8, bias=False)
    structure = {"sparsity": 0.75, **rival.options}
    again = rival.layer.from_linear(layer.to_linear(), **structure)
    assert again.bias is None
    assert torch.equal(again.weight, layer.weight)


def test_from_linear_keeps_device_dtype_and_bias(rival: Rival) -> None:
    linear = nn.Linear(16, 8, dtype=torch.float64)
    structure = {"sparsity": 0.75, **rival.options}
    layer = rival.layer.from_linear(linear, **structure)
    kept = layer.weight != 0
    assert layer.bias is not None
    assert torch.equal(layer.bias, linear.bias)
    assert torch.equal(layer.weight[kept], linear.weight[kept])


@pytest.mark.parametrize(
    ("sizes", "options", "limit"),
    [
        ((0, 8), {}, "in_features is 0"),
        ((8, -1), {}, "out_features is -1"),
        ((8, 8), {"sparsity": 1.0}, r"sparsity is 1.0.*\[0, 1\)"),
        ((8, 8), {"sparsity": -0.1}, r"sparsity is -0.1.*\[0, 1\)"),
        ((8, 8), {"sparsity": float("nan")}, "sparsity is nan"),
    ],
)
@pytest.mark.parametrize("name", ["csr", "nm", "block4", "condensed", "masked_dense"])
def test_bad_arguments(
    name: str, sizes: tuple[int, int], options: dict[str, Any], limit: str
) -> None:
    with pytest.raises(ValueError, match=limit):
        RIVALS[name](*sizes, **options)


def test_bad_input(rival: Rival) -> None:
    layer = rival(16, 8)
    with pytest.raises(ValueError, match=r"shape \(3, 8\).*in_features = 16"):
        layer(torch.randn(3, 8))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        layer(torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"float64.*float32"):
        layer(torch.randn(3, 16, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"on meta.*on cpu"):
        layer(torch.randn(3, 16, device="meta"))


def test_config_names_what_ran(rival: Rival) -> None:
    layer = rival(16, 8)
    layer(torch.randn(3, 16, requires_grad=True)).sum().backward()
    operations = ("GEMM",) if rival.layer is MaskedDenseLinear else ("forward", "grad_x")
    assert all(operation in layer.config for operation in operations)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["csr", "condensed", "masked_dense"]),
    in_features=st.integers(1, 40),
    out_features=st.integers(1, 40),
    batch=st.integers(0, 5),
    sparsity=st.floats(0, 0.999),
    seed=st.integers(0, 99),
)
def test_any_shape(
    name: str, in_features: int, out_features: int, batch: int, sparsity: float, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = RIVALS[name](in_features, out_features, sparsity=sparsity, dtype=torch.float64)
    x = torch.randn(batch, in_features, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    g = torch.randn_like(y)
    y.backward(g)
    expected, grad_x, grad_weight, _ = dense_gradients(layer, x, g)
    assert x.grad is not None
    assert layer.values.grad is not None
    assert_close(y, expected, torch.float64)
    assert_close(x.grad, grad_x, torch.float64)
    assert_close(layer.values.grad, layer._gather(grad_weight), torch.float64)


@pytest.mark.parametrize("layer", [CSRLinear, NMLinear, BlockLinear])
def test_unknown_formulation(layer: type[TunedSparseLinear]) -> None:
    known = ", ".join(layer.formulations)
    with pytest.raises(ValueError, match=f"unknown formulation 'magic'; known are {known}"):
        layer(64, 64, sparsity=0.5, formulation="magic")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "formulation"),
    [
        *(("csr", name) for name in ("torch_csr", "embedding_bag")),
        *(("nm", name) for name in ("torch_csr", "embedding_bag", "dense_gemm")),
        *(("block4", name) for name in ("torch_bsr", "bmm", "embedding_bag")),
    ],
)
def test_a_formulation_that_is_named_is_the_one_that_runs(name: str, formulation: str) -> None:
    layer = RIVALS[name](32, 24, formulation=formulation)
    x = torch.randn(5, 32, requires_grad=True)
    y = layer(x)
    y.backward(torch.ones_like(y))
    expected, grad_x, *_ = dense_gradients(layer, x, torch.ones(5, 24))
    assert x.grad is not None
    assert_close(y, expected, torch.float32)
    assert_close(x.grad, grad_x, torch.float32)
    assert f"forward {formulation}, grad_x {formulation}," in layer.config


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_a_formulation_only_the_shape_matters(rival: Rival, device: str) -> None:
    sparsity = rival.options.get("sparsity", 0.75) or 0.75
    structure = {name: rival.options[name] for name in ("block",) if name in rival.options}
    assert rival.layer.why_not(32, 24, sparsity, torch.float32, device=device, **structure) is None
