from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynadiag.dst.convert import convert_
from dynadiag.dst.freeze import freeze_, to_dense_
from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.registry import methods
from dynadiag.dst.split import SplitLinear
from dynadiag.nn import DiagonalLinear, DynamicDiagonalLinear, DynamicLinear, SparseLinear

SPARSE = [name for name in methods() if name != "dense"]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 96)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(96, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.drop(self.qkv(x).relu()))
        return y


def converted(method: str = "dynadiag", **planning: Any) -> Block:
    torch.manual_seed(0)
    model = Block().eval()
    convert_(model, method=method, **({"sparsity": 0.75} | planning))
    return model


def inputs() -> Tensor:
    return torch.randn(8, 32, generator=torch.Generator().manual_seed(1))


def train(model: nn.Module) -> None:
    """Some steps of gradient descent, and an exchange of units."""
    for _ in range(3):
        model(inputs()).square().sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.01 * parameter.grad)
                    parameter.grad = None
    for layer in dynamic_layers(model).values():
        layer.set_active(layer.active().roll(1, 0), zero_grown=False)


@torch.no_grad()
def relative(after: Tensor, before: Tensor) -> float:
    return float((after - before).norm() / before.norm())


@pytest.mark.parametrize("method", [name for name in SPARSE if name != "dynadiag_paper"])
def test_a_hard_selection_keeps_its_output(method: str) -> None:
    model = converted(method)
    train(model)
    before = model(inputs())
    assert freeze_(model) is model
    assert not any(isinstance(module, DynamicLinear) for module in model.modules())
    assert any(isinstance(module, SparseLinear) for module in model.modules())
    assert relative(model(inputs()), before) < 1e-6


def test_compact_layers_store_what_is_kept() -> None:
    model = converted()
    asked = {name: layer.num_diagonals for name, layer in model.named_modules() if _learns(layer)}
    freeze_(model)
    assert len(asked) == 4
    for name, kept in asked.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, DiagonalLinear)
        assert layer.values.shape == (kept, 32)


def _learns(layer: nn.Module) -> bool:
    return isinstance(layer, DynamicDiagonalLinear)


def test_soft_weights_are_folded_into_the_values() -> None:
    model = converted("dynadiag_paper", split={})
    layer = model.qkv
    assert isinstance(layer, DynamicDiagonalLinear)
    with torch.no_grad():
        layer.alpha[5:29] += 1.0
    layer.set_temperature(0.05)
    freeze_(model)
    frozen = model.qkv
    assert isinstance(frozen, DiagonalLinear)
    assert frozen.offsets.tolist() == list(range(5, 29))
    weights = 24 * torch.softmax(layer.alpha.detach() / 0.05, 0)[5:29, None]
    torch.testing.assert_close(frozen.values.detach(), layer.values.detach()[5:29] * weights)


def test_a_split_layer_stays_split() -> None:
    model = freeze_(converted())
    assert isinstance(model.qkv, SplitLinear)
    assert [type(part) for part in model.qkv.parts] == [DiagonalLinear] * 3


def test_flags_of_the_layers_stay() -> None:
    model = converted(split={}).train()
    model.out.eval()
    model.out.values.requires_grad_(False)
    model.qkv.bias.requires_grad_(False)
    freeze_(model)
    assert model.qkv.training
    assert not model.out.training
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"qkv.bias", "out.values"}


def test_a_layer_is_frozen_wherever_it_is() -> None:
    shared = DynamicDiagonalLinear(8, 8, sparsity=0.5)
    inner = nn.Sequential(shared)
    model = nn.ModuleList([shared, inner])
    freeze_(model)
    assert isinstance(inner[0], DiagonalLinear)
    assert model[0] is inner[0]


def test_what_is_final_stays() -> None:
    model = freeze_(converted())
    layers = list(model.modules())
    assert all(a is b for a, b in zip(freeze_(model).modules(), layers, strict=True))


def test_nothing_to_freeze() -> None:
    with pytest.raises(ValueError, match=r"no sparse layer to freeze; .*convert_"):
        freeze_(Block())


@pytest.mark.parametrize("change", [freeze_, to_dense_])
def test_a_layer_cannot_replace_itself(change: Any) -> None:
    with pytest.raises(ValueError, match=r"itself a DynamicDiagonalLinear.*wrap it"):
        change(DynamicDiagonalLinear(8, 8, sparsity=0.5))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", SPARSE)
def test_dense_layers_compute_the_same(method: str, frozen: bool) -> None:
    model = converted(method)
    train(model)
    if frozen:
        freeze_(model)
    before = model(inputs())
    assert to_dense_(model) is model
    assert relative(model(inputs()), before) < 1e-6
    assert type(model.qkv) is type(model.out) is nn.Linear
    assert model.qkv.weight.shape == (96, 32)
    assert model.out.bias is None


def test_a_dense_model_stays() -> None:
    model = Block()
    layers = list(model.modules())
    assert all(a is b for a, b in zip(to_dense_(model).modules(), layers, strict=True))
