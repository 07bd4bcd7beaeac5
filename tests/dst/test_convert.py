from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynadiag.dst.convert import convert_
from dynadiag.dst.plan import plan
from dynadiag.dst.registry import method as find_method
from dynadiag.dst.registry import methods
from dynadiag.dst.split import SplitLinear
from dynadiag.nn import DiagonalLinear, DynamicDiagonalLinear, DynamicLinear, SparseLinear

METHODS = ["static", "static_unstructured", "dynadiag", "rigl"]
EVERY_METHOD = [name for name in methods() if name != "dense"]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 4))


def sparse(model: nn.Module) -> dict[str, SparseLinear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, SparseLinear)}


def unchanged(model: nn.Module, before: nn.Module) -> bool:
    state, other = model.state_dict(), before.state_dict()
    same = [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    return (
        same and list(state) == list(other) and all(torch.equal(state[n], other[n]) for n in state)
    )


def trains(model: nn.Module, run: Callable[[], Tensor]) -> None:
    """One step with, and one output without gradients; both finite, and every layer learns."""
    run().square().mean().backward()
    for name, layer in sparse(model).items():
        gradient = layer.values.grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.any(), name
    model.eval()
    with torch.no_grad():
        assert run().isfinite().all()
    model.train()


@pytest.mark.parametrize("method", METHODS)
def test_the_plan_is_what_the_model_holds(method: str) -> None:
    model = mlp()
    planned = plan(model, sparsity=0.75, method=method)
    assert convert_(model, planned) is model
    layers = sparse(model)
    assert list(layers) == [row.name for row in planned.converted] == ["0", "2", "3"]
    for row in planned.converted:
        weight = layers[row.name].weight
        assert weight.shape == (row.out_features, row.in_features)
        assert int(weight.count_nonzero()) == row.weights
    trains(model, lambda: model(torch.randn(3, 16)))


def test_one_call_plans_and_converts() -> None:
    model = convert_(mlp(), sparsity=0.75, method="static", exclude="3")
    assert list(sparse(model)) == ["0", "2"]
    assert type(model[3]) is nn.Linear


def test_the_method_is_left_with_its_layers() -> None:
    planned = plan(mlp(), sparsity=0.75, method="rigl")
    layers = sparse(convert_(mlp(), planned)).values()
    assert [getattr(layer, "method", None) for layer in layers] == [planned.method] * 3


def test_dense_leaves_the_model_alone() -> None:
    model = mlp()
    before = copy.deepcopy(model)
    assert unchanged(convert_(model, sparsity=0.9, method="dense"), before)


def test_seeds_draw_the_topology() -> None:
    def offsets(seed: int | None) -> Tensor:
        layer = convert_(mlp(), sparsity=0.75, method="static", seed=seed)[2]
        assert isinstance(layer, DiagonalLinear)
        return layer.offsets

    assert torch.equal(offsets(1), offsets(1))
    assert not torch.equal(offsets(1), offsets(2))
    torch.manual_seed(5)
    assert torch.equal(offsets(None), offsets(5))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_layer_was_stays(method: str) -> None:
    model = mlp().double().eval()
    model[0].train()
    model.get_parameter("2.weight").requires_grad_(False)
    bias = model.get_parameter("0.bias").detach().clone()
    convert_(model, sparsity=0.75, method=method)
    assert [m.training for m in model] == [True, False, False, False]
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert torch.equal(model.get_parameter("0.bias"), bias)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    # Some methods move alpha by themselves and keep it from the optimizer.
    assert {name for name in frozen if "alpha" not in name} == {"2.values"}


def test_a_shared_layer_stays_shared() -> None:
    shared = nn.Linear(32, 32)
    model = convert_(
        nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared)), sparsity=0.75, method="static"
    )
    assert isinstance(model[0], DiagonalLinear)
    assert model.get_submodule("2.0") is model[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_fused_layer_gets_parts_of_its_own(method: str) -> None:
    linear = nn.Linear(32, 96)
    model = convert_(nn.ModuleDict({"qkv": linear}), sparsity=0.75, method=method)
    layer = model["qkv"]
    assert isinstance(layer, SplitLinear)
    assert [int(part.weight.count_nonzero()) for part in sparse(layer).values()] == [256] * 3
    torch.testing.assert_close(layer.bias, linear.bias)
    trains(model, lambda: layer(torch.randn(5, 32)))


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_an_encoder_layer_of_torch(method: str) -> None:
    model = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
    convert_(model, sparsity=0.75, method=method)
    assert {"self_attn.out_proj", "linear1", "linear2"} <= sparse(model).keys()
    x = torch.randn(2, 5, 32)
    trains(model, lambda: model(x))
    expected = model(x)
    with torch.no_grad():  # in eval mode torch reads the weights and calls one fused kernel
        torch.testing.assert_close(model.eval()(x), expected)


@pytest.mark.parametrize("method", METHODS)
def test_attention_of_torch(method: str) -> None:
    model = nn.MultiheadAttention(32, 2, batch_first=True)
    convert_(model, sparsity=0.75, method=method)
    assert list(sparse(model)) == ["out_proj"]
    x = torch.randn(2, 5, 32)
    trains(model, lambda: model(x, x, x)[0])
    expected = model(x, x, x)[0]
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x, x, x)[0], expected)


@pytest.mark.parametrize(
    "method", [name for name in EVERY_METHOD if find_method(name).needs_gradient]
)
def test_growth_sees_the_gradients_of_a_layer_whose_weight_attention_reads(method: str) -> None:
    model = convert_(nn.MultiheadAttention(32, 2), sparsity=0.75, method=method)
    layer = model.out_proj
    assert isinstance(layer, DynamicLinear)
    layer.set_dense_gradient(True)
    x = torch.randn(5, 2, 32)
    model(x, x, x)[0].sum().backward()
    assert layer.gradient_strength()[~layer.active()].all()


def other_model() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 8))


def deeper_model() -> nn.Module:
    return nn.Sequential(*mlp(), nn.Linear(4, 4))


def tied_model() -> nn.Module:
    model, twin = mlp(), nn.Embedding(32, 32)
    twin.weight = model.get_parameter("2.weight")
    model.add_module("twin", twin)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_model, "another model: layer 3 is 4 x 32 in the plan, 8 x 32 in the model; plan"),
        (deeper_model, "layer 4 is absent in the plan, 4 x 4 in the model"),
        (lambda: nn.Sequential(nn.Linear(16, 32)), "layer 2 is 32 x 32 in the plan, absent in"),
        (tied_model, "layer 2 can no longer be converted: its weight is tied to twin.weight"),
        (lambda: convert_(mlp(), sparsity=0.75, method="static"), "sparse already: 0 is a Diag"),
    ],
)
def test_a_plan_that_does_not_fit_changes_nothing(
    make: Callable[[], nn.Module], message: str
) -> None:
    planned, model = plan(mlp(), sparsity=0.75, method="static"), make()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=message):
        convert_(model, planned)
    assert unchanged(model, before)


@pytest.mark.parametrize(
    "arguments",
    [{"sparsity": 2.0}, {"sparsity": 0.9, "exclude": "nobody"}, {"sparsity": 0.999}],
)
def test_an_error_of_planning_changes_nothing(arguments: dict[str, Any]) -> None:
    model = mlp()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"must lie|matches no module|at most"):
        convert_(model, method="static", **arguments)
    assert unchanged(model, before)


def test_a_failing_method_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp()
    before, planned = copy.deepcopy(model), plan(model, sparsity=0.75, method="static")

    def fail(method: object, linear: nn.Linear, *rest: object) -> nn.Module:
        if linear.out_features == 4:
            raise MemoryError
        return nn.Identity()

    monkeypatch.setattr(type(planned.method), "build", fail)
    with pytest.raises(MemoryError):
        convert_(model, planned)
    assert unchanged(model, before)


def test_a_model_without_memory_is_planned_but_not_converted() -> None:
    model = mlp().to("meta")
    planned = plan(model, sparsity=0.75)
    assert planned == plan(mlp(), sparsity=0.75)
    with pytest.raises(ValueError, match=r"layer 0 is on the meta device, .*to_empty"):
        convert_(model, planned)
    assert isinstance(model[0], nn.Linear)


def test_a_plan_or_its_arguments() -> None:
    with pytest.raises(TypeError, match="a plan is given, and sparsity beside it; pass one"):
        convert_(mlp(), plan(mlp(), sparsity=0.75, method="static"), sparsity=0.9)
    with pytest.raises(TypeError, match="sparsity"):
        convert_(mlp())


def test_the_default_method_learns_its_diagonals() -> None:
    model = convert_(mlp(), sparsity=0.75)
    assert all(isinstance(layer, DynamicDiagonalLinear) for layer in sparse(model).values())
