from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from dynadiag import geometry
from dynadiag.dst.plan import Plan, plan
from dynadiag.nn import DiagonalLinear


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)


def network() -> nn.Sequential:
    layers = {
        "stem": nn.Linear(64, 96),
        "attn": Attention(96),
        "fc": nn.Linear(96, 256),
        "head": nn.Linear(256, 10),
    }
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def budget(planned: Plan) -> float:
    dense = sum(row.out_features * row.in_features for row in planned.converted)
    return (1 - planned.sparsity) * dense


def test_uniform_keeps_the_diagonals_of_single_layers() -> None:
    planned = plan(network(), sparsity=0.9, method="static", distribution="uniform")
    kept = {row.name: row.kept for row in planned.layers}
    assert kept == {
        "stem": geometry.num_diagonals(96, 64, 0.9),
        "attn.qkv": geometry.num_diagonals(96, 96, 0.9),
        "attn.proj": geometry.num_diagonals(96, 96, 0.9),
        "fc": geometry.num_diagonals(256, 96, 0.9),
        "head": geometry.num_diagonals(10, 256, 0.9),
    }


@pytest.mark.parametrize("method", ["static", "static_unstructured", "dynadiag", "rigl"])
@pytest.mark.parametrize("distribution", ["erk", "compute"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_the_budget_of_converted_layers_is_met(
    method: str, distribution: str, sparsity: float
) -> None:
    planned = plan(
        network(), sparsity=sparsity, method=method, distribution=distribution, exclude="head"
    )
    step = max(row.parts * row.unit for row in planned.converted)
    assert abs(planned.weights - budget(planned)) <= step
    assert planned.achieved == pytest.approx(sparsity, abs=step / budget(planned))
    assert all(1 <= row.kept <= row.units for row in planned.converted)


def test_compute_counts_positions_in_an_example() -> None:
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.pooled = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.pooled(self.tokens(x).mean(1))
            return y

    def kept(**arguments: Any) -> list[int]:
        planned = plan(Pooling(), sparsity=0.5, method="static", **arguments)
        assert planned.weights == 32 * 32
        return [row.kept for row in planned.layers]

    assert kept() == [16, 16]
    assert kept(example=torch.ones(2, 15, 32)) == [30, 2]
    assert kept(example=torch.ones(2, 15, 32), distribution="uniform") == [16, 16]


def test_a_fused_layer_is_split_where_its_name_says_so() -> None:
    parts = {row.name: row.parts for row in plan(network(), sparsity=0.9, method="static").layers}
    assert parts == {"stem": 1, "attn.qkv": 3, "attn.proj": 1, "fc": 1, "head": 1}
    whole = plan(network(), sparsity=0.9, method="static", split={})
    assert all(row.parts == 1 for row in whole.layers)
    halves = plan(network(), sparsity=0.9, method="static", split={"fc": 2})
    assert next(row for row in halves.layers if row.name == "fc").units == 128


def test_skipped_layers_say_why_and_are_no_part_of_the_budget() -> None:
    planned = plan(
        network(), sparsity=0.9, method="static", include=["attn", "head"], exclude=["proj"]
    )
    skipped = {row.name: row.skipped for row in planned.layers}
    assert skipped == {
        "stem": "not included",
        "attn.qkv": None,
        "attn.proj": "excluded",
        "fc": "not included",
        "head": None,
    }
    assert planned.weights == pytest.approx(0.1 * (288 * 96 + 10 * 256), abs=288)


def test_dense_converts_nothing() -> None:
    planned = plan(network(), sparsity=0.9, method="dense", exclude="head")
    assert planned.converted == ()
    assert {row.skipped for row in planned.layers} == {"excluded", "the method is dense"}
    assert planned.achieved == 0


def test_planning_changes_nothing() -> None:
    model = network()
    before = copy.deepcopy(model)
    plan(model, sparsity=0.9, method="static")
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    assert all(map(torch.equal, model.parameters(), before.parameters()))


def test_the_table() -> None:
    printed = str(plan(network(), sparsity=0.9, method="static", exclude="head")).splitlines()
    assert printed[0] == "method static, sparsity 0.9, distribution compute"
    assert printed[1].split() == ["layer", "shape", "kept", "weights", "asked", "achieved"]
    cells = "attn.qkv 288 x 96 10 of 96 2880 0.9000 0.8958 in each of 3 parts"
    assert " ".join(printed[3].split()) == cells
    assert " ".join(printed[6].split()) == "head 10 x 256 all 2560 skipped: excluded"
    assert printed[7].split()[:4] == ["total", "4", "of", "5"]
    assert printed[8] == "The budget counts converted layers only."
    assert len(printed) == 9


def test_a_plan_survives_json() -> None:
    planned = plan(network(), sparsity=0.9, method="rigl", distribution="erk", exclude="head")
    assert Plan.from_dict(json.loads(json.dumps(planned.to_dict()))) == planned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity is 1.0, but must lie in \[0, 1\)"),
        ({"sparsity": -0.1}, r"sparsity is -0.1"),
        ({"method": "magic"}, "'magic'; choose from .*static"),
        ({"method": "static", "warmth": 3}, "no option 'warmth'"),
        ({"distribution": "even"}, "unknown distribution 'even'; known: uniform, erk, compute"),
        ({"split": 3}, "split is 3; pass 'auto'"),
        ({"split": {"fc": 3}}, "layer fc has 256 outputs, which 3 parts cannot"),
        ({"exclude": ["haed"]}, "exclude 'haed' matches no module .* 'head'"),
        ({"include": ["attention"]}, "include 'attention' matches no module"),
        ({"split": {"kqv": 3}}, "split 'kqv' matches no module .* 'qkv'"),
        ({"exclude": ["*"]}, "no linear layer left to convert, .* stem and 4 more: excluded"),
        ({"method": "dsb"}, "layer head cannot be made sparse by dsb: block is 16, .* exclude"),
        ({"sparsity": 0.999, "distribution": "uniform"}, "layer stem cannot be made sparse"),
        ({"sparsity": 0.999}, "ask for at most 0.9[0-9]+, or exclude small layers"),
    ],
)
def test_bad_input_is_named_with_its_remedy(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"sparsity": 0.9, "method": "static"} | changes
    with pytest.raises(ValueError, match=message):
        plan(network(), **arguments)


def test_a_model_without_linear_layers() -> None:
    with pytest.raises(ValueError, match="has no linear layer to convert"):
        plan(nn.Sequential(nn.Conv2d(3, 3, 3)), sparsity=0.9, method="static")


def test_only_a_layer_that_cannot_be_converted() -> None:
    with pytest.raises(ValueError, match=r"the model: it is the model itself.*nn\.Sequential"):
        plan(nn.Linear(8, 8), sparsity=0.5, method="static")


def test_a_sparse_model() -> None:
    model = nn.Sequential(nn.Linear(8, 8), DiagonalLinear(8, 8, sparsity=0.5))
    with pytest.raises(ValueError, match="sparse already: 1 is a DiagonalLinear; start from"):
        plan(model, sparsity=0.5, method="static")
