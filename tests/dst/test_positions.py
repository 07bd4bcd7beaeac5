from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynadiag.dst.positions import count_positions


class Mixed(nn.Module):
    """Sees tokens, then their mean; `unused` sees nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head, self.unused = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(4, 4)
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout()

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        hidden = self.norm(self.tokens(scale * x).transpose(1, 2)).mean(2)
        y: Tensor = self.head(self.drop(hidden))
        return y


@pytest.mark.parametrize(
    "example",
    [torch.ones(5, 7, 4), (torch.ones(5, 7, 4), 2.0), {"x": torch.ones(5, 7, 4), "scale": 2.0}],
)
def test_counts_what_each_layer_sees(example: object) -> None:
    assert count_positions(Mixed(), ["head", "tokens"], example) == [5, 35]


def test_a_layer_used_twice_counts_twice() -> None:
    layer = nn.Linear(4, 4)
    assert count_positions(nn.Sequential(layer, layer), ["0"], torch.ones(3, 4)) == [6]


def test_the_model_is_left_as_it_was() -> None:
    model = Mixed()
    model.norm.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    count_positions(model, ["tokens"], torch.randn(5, 7, 4, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert model.training
    assert model.drop.training
    assert not model.norm.training
    assert not model.tokens._forward_hooks


def test_hooks_go_even_if_the_example_is_wrong() -> None:
    model = Mixed()
    with pytest.raises(RuntimeError):
        count_positions(model, ["tokens"], torch.ones(5, 7, 3))
    assert not model.tokens._forward_hooks
    assert model.training


@pytest.mark.parametrize("training", [True, False])
def test_the_layers_of_an_encoder_that_reads_their_weights(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train(training)
    names = ["self_attn.out_proj", "linear1", "linear2"]
    assert count_positions(layer, names, torch.ones(3, 5, 8)) == [15, 15, 15]


def test_a_layer_that_sees_nothing() -> None:
    with pytest.raises(ValueError, match="layer unused sees nothing of the example; exclude"):
        count_positions(Mixed(), ["tokens", "unused"], torch.ones(5, 7, 4))
