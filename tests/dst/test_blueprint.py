from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from dynadiag.dst.blueprint import build, describe, difference, set_phase, sparse_layers
from dynadiag.dst.convert import convert_
from dynadiag.dst.registry import methods
from dynadiag.dst.split import SplitLinear
from dynadiag.nn import DiagonalLinear, DynamicDiagonalLinear

SPARSE = [name for name in methods() if name != "dense"]


def converted(method: str, sparsity: float = 0.75) -> nn.Module:
    torch.manual_seed(0)
    return convert_(nn.ModuleDict({"qkv": nn.Linear(32, 96)}), sparsity=sparsity, method=method)


@pytest.mark.parametrize("method", SPARSE)
def test_a_layer_is_built_from_plain_values(method: str) -> None:
    layer = converted(method).get_submodule("qkv")
    blueprint = json.loads(json.dumps(describe(layer)))
    built = build(blueprint)
    built.load_state_dict(layer.state_dict())
    x = torch.randn(4, 32)
    assert torch.equal(built(x), layer(x))
    assert difference(describe(built), describe(layer)) is None


@pytest.mark.parametrize("method", ["dynadiag", "pixelated_butterfly"])
def test_a_layer_made_of_layers_is_one(method: str) -> None:
    model = converted(method)
    assert list(sparse_layers(model)) == ["qkv"]
    assert isinstance(model.get_submodule("qkv"), SplitLinear)


def test_the_phase_is_no_part_of_the_plan() -> None:
    early, late = (DynamicDiagonalLinear(8, 8, num_diagonals=2) for _ in range(2))
    late.reserve(3)
    late.set_num_active(3)
    late.set_temperature(0.1)
    assert difference(describe(early), describe(late)) is None
    set_phase(early, describe(late))
    assert early.kept == 3
    assert float(early.temperature) == pytest.approx(0.1)


def test_the_first_difference_is_told() -> None:
    layers = [DiagonalLinear(8, 8, num_diagonals=count) for count in (2, 3)]
    split = [describe(SplitLinear([layers[0], layer])) for layer in layers]
    message = "structure {'num_diagonals': 3} in the file, {'num_diagonals': 2} in the model"
    assert difference(*split) == message
    assert difference(split[0], split[0]) is None
