from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from dynadiag import models

# As their papers and timm's models of the same name count them.
PARAMETERS = {
    "vit_b16": 86_567_656,
    "mixer_s16": 18_528_264,
    "gpt2_small": 124_439_808,
    "vit_cifar": 6_268_810,
    "mlp_mnist": 784 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10,
}
OUTPUTS = {
    "vit_b16": ((2, 3, 224, 224), (2, 1000)),
    "mixer_s16": ((2, 3, 224, 224), (2, 1000)),
    "gpt2_small": ((2, 1024), (2, 1024, 50257)),
    "vit_cifar": ((2, 3, 32, 32), (2, 10)),
    "mixer_cifar": ((2, 3, 32, 32), (2, 10)),
    "mlp_mnist": ((2, 1, 28, 28), (2, 10)),
    "mlp_digits": ((2, 1, 8, 8), (2, 10)),
    "vit_digits": ((2, 1, 8, 8), (2, 10)),
    "mixer_digits": ((2, 1, 8, 8), (2, 10)),
    "gpt_text": ((2, 64), (2, 64, 256)),
}


def example(name: str) -> Tensor:
    shape = OUTPUTS[name][0]
    return torch.zeros(shape, dtype=torch.long if len(shape) == 2 else torch.float32)


def test_every_name_is_tested() -> None:
    assert set(models.names()) == set(OUTPUTS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_those_of_the_papers(name: str) -> None:
    with torch.device("meta"):
        model = models.create(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", OUTPUTS)
def test_logits_have_the_documented_shape(name: str) -> None:
    with torch.device("meta"):
        logits = models.create(name)(example(name))
    assert logits.shape == OUTPUTS[name][1]


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_model_has_a_head_to_exclude(name: str) -> None:
    with torch.device("meta"):
        model = models.create(name)
    assert model.get_parameter("head.weight").shape[0] == OUTPUTS[name][1][-1]


@pytest.mark.parametrize("name", ["mlp_digits", "vit_digits", "mixer_digits", "gpt_text"])
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name)
    x = example(name)
    x = torch.randint(256, x.shape) if name == "gpt_text" else torch.randn(x.shape)
    model(x).square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_seed_decides_the_weights() -> None:
    torch.manual_seed(0)
    first = models.create("vit_digits").state_dict()
    torch.manual_seed(0)
    second = models.create("vit_digits").state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_fields_can_be_changed() -> None:
    model = models.create("mlp_digits", hidden=(32,), classes=3)
    assert [tuple(p.shape) for p in model.parameters() if p.dim() == 2] == [(32, 64), (3, 32)]


def test_configurations_are_frozen() -> None:
    config = models.MLPConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.classes = 3  # type: ignore[misc]


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'vit'.*vit_b16.*gpt_text"):
        models.create("vit")
    with pytest.raises(ValueError, match="'mlp_digits' has no 'width'; it has inputs, hidden"):
        models.create("mlp_digits", width=3)
