from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.dst.surgery import install_, like, linear_at, replace_


def test_a_module_is_replaced_under_all_its_names() -> None:
    old, new = nn.Linear(2, 2), nn.Linear(2, 2)
    inner, other = nn.Sequential(nn.ReLU(), old), nn.Linear(2, 2)
    model = nn.ModuleDict({"a": old.eval(), "b": inner, "c": other})
    replace_(model, {old: new})
    assert model["a"] is new
    assert inner[1] is new
    assert model["c"] is other
    assert not new.training


def test_frozen_parameters_stay_frozen() -> None:
    old = nn.Linear(2, 2)
    old.weight.requires_grad_(False)
    new = like(nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1)), old)
    frozen = {name for name, parameter in new.named_parameters() if not parameter.requires_grad}
    assert frozen == {"0.weight", "1.weight"}


def test_a_layer_is_frozen_where_all_parts_of_the_old_one_are() -> None:
    old = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    old[0].weight.requires_grad_(False)
    assert like(nn.Linear(2, 2), old).weight.requires_grad
    old[1].weight.requires_grad_(False)
    new = like(nn.Linear(2, 2), old)
    assert (new.weight.requires_grad, new.bias.requires_grad) == (False, True)


def test_a_whole_state_is_installed() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    new = nn.Linear(2, 3, bias=False)
    state = {"0.weight": torch.ones(3, 2), "1.weight": torch.ones(3), "1.bias": torch.ones(3)}
    install_(model, {model[0]: new}, state, "the file")
    assert model[0] is new
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_misfit_names_a_few_and_counts_the_rest() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(6)))
    layers = list(model)
    message = r"the file does not fit.*lacks 0\.weight, 1\.weight, 2\.weight, 3\.weight and 2 more$"
    with pytest.raises(ValueError, match=message):
        install_(model, {model[0]: nn.Linear(2, 2, bias=False)}, {}, "the file")
    assert list(model) == layers


def test_only_layers_that_can_be_replaced_are_returned() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert linear_at(model, "0", "the file") is model[0]
    for name in ("1", "2", ""):
        with pytest.raises(ValueError, match=f"the file holds a sparse layer '{name}', but .*pass"):
            linear_at(model, name, "the file")
