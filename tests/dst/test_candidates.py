from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dynadiag.dst.candidates import as_linear, candidates
from dynadiag.dst.plan import plan


class Conv1D(nn.Module):
    """The layer of transformers: a linear one with the weight transposed."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Named(nn.Linear):
    """A subclass that computes as its base does."""


class Doubling(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def refusals(model: nn.Module) -> dict[str, str | None]:
    return {each.name: each.refusal for each in candidates(model)}


def test_linear_layers_and_their_likes() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Named(6, 6), Conv1D(3, 6), nn.Conv1d(3, 3, 1))
    sizes = [(each.name, each.out_features, each.in_features) for each in candidates(model)]
    assert sizes == [("0", 6, 4), ("2", 6, 6), ("3", 3, 6)]
    assert set(refusals(model).values()) == {None}


def test_a_forward_of_its_own() -> None:
    assert "Doubling has a forward" in str(refusals(nn.Sequential(Doubling(4, 4)))["0"])


def test_the_model_itself() -> None:
    assert "nn.Sequential" in str(refusals(nn.Linear(4, 4))[""])


def test_a_computed_weight() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)))
    assert "computed" in str(refusals(model)["0"])


def test_tied_weights_name_each_other() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(8, 4), "head": nn.Linear(4, 8, bias=False)})
    model["head"].weight = model["embed"].weight
    assert refusals(model)["head"] == "its weight is tied to embed.weight"


def test_a_module_held_twice_is_one_layer() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleList([nn.Sequential(shared), shared])
    assert refusals(model) == {"0.0": None}
    assert candidates(model)[0].aliases == ("1",)
    with pytest.raises(ValueError, match=r"0\.0: excluded"):
        plan(model, sparsity=0.5, exclude="1")


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_layer_of_unknown_size() -> None:
    assert "has run once" in str(refusals(nn.Sequential(nn.LazyLinear(4)))["0"])


@pytest.mark.parametrize(("kdim", "number"), [(None, 1), (5, 3)])
def test_the_projections_of_attention_are_no_layers(kdim: int | None, number: int) -> None:
    found = refusals(nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, kdim=kdim)}))
    assert found.pop("attn.out_proj") is None
    assert len(found) == number
    assert all("parameter of nn.MultiheadAttention" in str(reason) for reason in found.values())


@pytest.mark.parametrize("layer", [nn.Linear(4, 6), nn.Linear(4, 6, bias=False), Conv1D(6, 4)])
def test_a_slice_computes_those_outputs(layer: nn.Module) -> None:
    x = torch.randn(3, 4)
    linear = as_linear(layer.eval(), 2, 5)
    torch.testing.assert_close(linear(x), layer(x)[:, 2:5])
    assert (linear.in_features, linear.out_features, linear.training) == (4, 3, False)
    assert linear.weight.untyped_storage().data_ptr() == layer.get_parameter("weight").data_ptr()


def test_a_slice_is_frozen_where_the_layer_is() -> None:
    layer = nn.Linear(4, 6)
    layer.weight.requires_grad_(False)
    linear = as_linear(layer)
    assert (linear.weight.requires_grad, linear.bias.requires_grad) == (False, True)
