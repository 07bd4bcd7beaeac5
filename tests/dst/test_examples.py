from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.dst.examples import call, evaluating


def test_every_module_gets_its_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_an_error_gives_the_modes_back_too() -> None:
    model = nn.Dropout()
    with pytest.raises(TypeError), evaluating(model):
        model()
    assert model.training


class Subtraction(nn.Module):
    def forward(self, a: int, b: int = 1) -> int:
        return a - b


@pytest.mark.parametrize(("example", "output"), [(5, 4), ((5, 2), 3), ({"b": 4, "a": 5}, 1)])
def test_an_example_is_one_input_or_several(example: object, output: int) -> None:
    assert call(Subtraction(), example) == output
