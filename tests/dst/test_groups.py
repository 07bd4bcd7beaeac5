from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dynadiag.dst.groups import param_groups
from dynadiag.nn import CSRLinear, DiagonalLinear, DynamicDiagonalLinear


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 8))
        self.marked = nn.Parameter(torch.zeros(2, 8))
        self.marked._no_weight_decay = True  # type: ignore[attr-defined]
        self.dense, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.dynamic = DynamicDiagonalLinear(8, 8, sparsity=0.5)
        self.fixed, self.csr = DiagonalLinear(8, 8, sparsity=0.5), CSRLinear(8, 8, sparsity=0.5)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)

    def no_weight_decay(self) -> set[str]:
        return {"position"}


def names(model: nn.Module, group: dict[str, Any]) -> list[str]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return [by_id[id(parameter)] for parameter in group["params"]]


def test_only_weights_are_decayed() -> None:
    model = Network()
    decayed, spared, alpha = param_groups(model, 0.05)
    assert names(model, decayed) == ["dense.weight", "dynamic.values", "fixed.values", "csr.values"]
    assert names(model, spared) == [
        "position",
        "marked",
        "dense.bias",
        "norm.weight",
        "norm.bias",
        "dynamic.bias",
        "fixed.bias",
        "csr.bias",
    ]
    assert names(model, alpha) == ["dynamic.alpha"]
    assert [group["weight_decay"] for group in (decayed, spared, alpha)] == [0.05, 0.0, 0.0]
    assert all("lr" not in group for group in (decayed, spared, alpha))


def test_alpha_may_have_a_learning_rate_of_its_own() -> None:
    *others, alpha = param_groups(Network(), 0.05, alpha_lr=0.5)
    assert alpha["lr"] == 0.5
    assert all("lr" not in group for group in others)


def test_a_tied_parameter_comes_once() -> None:
    model = nn.ModuleList([nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)])
    model[1].weight = model[0].weight
    (decayed,) = param_groups(model, 0.1)
    assert len(decayed["params"]) == 1


@pytest.mark.parametrize(
    "kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Rprop]
)
def test_any_optimizer_takes_them(kind: type[torch.optim.Optimizer]) -> None:
    model = Network()
    optimizer = kind(param_groups(model, 0.05, alpha_lr=0.5), lr=0.1)  # type: ignore[call-arg]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.5]
    model.dynamic(torch.randn(4, 8)).sum().backward()
    optimizer.step()


def test_a_step_without_gradients_shrinks_weights_alone() -> None:
    model = Network()
    optimizer = torch.optim.SGD(param_groups(model, 0.5), lr=1.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    shrunk = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert shrunk == ["dense.weight", "dynamic.values", "fixed.values", "csr.values"]


def test_on_the_cpu_the_fused_step_is_asked_for() -> None:
    model = Network()
    optimizer = torch.optim.AdamW(param_groups(model, 0.05))
    assert all(group["fused"] for group in optimizer.param_groups)
    model.register_parameter("phase", nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64)))
    torch.optim.AdamW(param_groups(model, 0.05))
    elsewhere = param_groups(Network().to("meta"), 0.05)
    assert not any("fused" in group for group in elsewhere)
