from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynadiag.dst.official import load_official_, official_count, official_layer
from dynadiag.nn import DiagonalLinear, DynamicDiagonalLinear

SIZES = [(12, 12), (7, 20), (20, 7), (1, 5), (5, 1)]


class Official:
    """The published layer, written down entry by entry from its description."""

    def __init__(self, n: int, m: int, sparsity: float, temperature: float, bias: bool) -> None:
        self.sizes = n, m
        longer, shorter = max(n, m), min(n, m)
        self.k = max(1, math.ceil(int((1 - sparsity) * (m * n)) / shorter))
        self.temperature = temperature
        self.state = {
            "V": torch.randn(longer, shorter),
            "alpha": torch.rand(longer) / longer,
            "rows_idx": torch.zeros(longer, shorter, dtype=torch.long),
            "cols_idx": torch.zeros(longer, shorter, dtype=torch.long),
            "frozen_indices": torch.empty(0, dtype=torch.long),
        }
        for s in range(longer):
            for j in range(shorter):
                self.state["rows_idx"][s, j] = (j + s) % m if m >= n else j
                self.state["cols_idx"][s, j] = j if m >= n else (j + s) % n
        if bias:
            self.state["bias"] = torch.randn(m)

    def freeze(self) -> None:
        ranked = sorted(range(max(self.sizes)), key=lambda s: -float(self.state["alpha"][s]))
        self.state["frozen_indices"] = torch.tensor(ranked[: self.k])

    def weights(self) -> list[float]:
        frozen = self.state["frozen_indices"].tolist()
        if frozen:
            return [float(s in frozen) for s in range(max(self.sizes))]
        powers = [math.exp(float(a) / self.temperature) for a in self.state["alpha"]]
        return [min(1.0, self.k * power / sum(powers)) for power in powers]

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.zeros(len(x), self.sizes[1])
        for s, weight in enumerate(self.weights()):
            rows, columns = self.state["rows_idx"][s], self.state["cols_idx"][s]
            for j, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
                y[:, row] += weight * self.state["V"][s, j] * x[:, column]
        return y + self.state["bias"] if "bias" in self.state else y


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("temperature", [5.0, 0.02])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_soft_layer(sizes: tuple[int, int], temperature: float) -> None:
    official = Official(*sizes, 0.6, temperature, bias=True)
    layer = official_layer(official.state, *sizes, sparsity=0.6, temperature=temperature)
    assert isinstance(layer, DynamicDiagonalLinear)
    assert layer.selection == "soft_topk"
    assert layer.num_diagonals == official.k
    x = torch.randn(4, sizes[0])
    torch.testing.assert_close(layer(x), official(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_frozen_layer(sizes: tuple[int, int]) -> None:
    official = Official(*sizes, 0.6, 1.0, bias=False)
    official.freeze()
    layer = official_layer(official.state, *sizes)
    assert isinstance(layer, DiagonalLinear)
    assert layer.num_diagonals == official.k
    assert layer.bias is None
    x = torch.randn(4, sizes[0])
    torch.testing.assert_close(layer(x), official(x), rtol=1e-5, atol=1e-5)


def test_a_frozen_layer_that_does_not_say_so() -> None:
    official = Official(20, 7, 0.6, 1.0, bias=True)
    bare = {name: official.state[name] for name in ("V", "alpha", "bias")}
    layer = official_layer(bare, 20, 7, sparsity=0.6, frozen=True)
    official.freeze()
    x = torch.randn(4, 20)
    torch.testing.assert_close(layer(x), official(x), rtol=1e-5, atol=1e-5)


def test_k_is_rounded_up() -> None:
    assert official_count(768, 768, 0.9) == 77
    assert official_count(784, 256, 0.9) == 79
    assert official_count(10, 10, 0.999) == 1


def test_the_layer_is_independent_of_the_state() -> None:
    official = Official(12, 12, 0.6, 1.0, bias=True)
    layer = official_layer(official.state, 12, 12, sparsity=0.6)
    before = official.state["V"].clone()
    with torch.no_grad():
        layer.values.zero_()
    assert torch.equal(official.state["V"], before)


@pytest.mark.parametrize(
    ("state", "arguments", "message"),
    [
        ({"V": (6, 4), "alpha": (6,)}, {}, "K is not known; pass the sparsity"),
        ({"V": (6, 4)}, {}, "holds V, but an official layer holds V and alpha"),
        ({}, {}, "holds nothing, but an official layer"),
        ({"V": (6, 4), "alpha": (6,), "mask": (1,)}, {}, "holds V, alpha, mask"),
        ({"V": (4, 6), "alpha": (6,)}, {}, r"V has shape \(4, 6\).*6 x 4 has \(6, 4\)"),
        ({"V": (6, 4), "alpha": (4,)}, {}, r"alpha has shape \(4,\)"),
        ({"V": (6, 4), "alpha": (6,), "bias": (4,)}, {}, r"bias has shape \(4,\).*\(6,\)"),
        ({"V": (6, 4), "alpha": (6,)}, {"sparsity": 1.0}, r"sparsity is 1\.0"),
    ],
)
def test_a_state_that_is_no_official_layer(
    state: dict[str, tuple[int, ...]], arguments: dict[str, Any], message: str
) -> None:
    tensors = {name: torch.zeros(shape) for name, shape in state.items()}
    with pytest.raises(ValueError, match=message):
        official_layer(tensors, 4, 6, **arguments)


def dense() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)
    )


def published(freeze: bool) -> tuple[dict[str, Tensor], list[Official], nn.Linear]:
    """The state of a perceptron as the published example builds it: the head is dense."""
    hidden = [Official(20, 12, 0.7, 0.05, bias=True), Official(12, 12, 0.7, 0.05, bias=True)]
    head = nn.Linear(12, 3)
    state = {f"4.{name}": tensor for name, tensor in head.state_dict().items()}
    for place, layer in zip((0, 2), hidden, strict=True):
        if freeze:
            layer.freeze()
        state |= {f"{place}.{name}": tensor for name, tensor in layer.state.items()}
    return state, hidden, head


@pytest.mark.parametrize("freeze", [False, True])
def test_a_whole_model(freeze: bool) -> None:
    state, hidden, head = published(freeze)
    model = load_official_(dense(), state, sparsity=0.7, temperature=0.05)
    x = torch.randn(4, 20)
    theirs = head(hidden[1](hidden[0](x).relu()).relu())
    torch.testing.assert_close(model(x), theirs, rtol=1e-5, atol=1e-5)


def _no_head(state: dict[str, Tensor]) -> None:
    del state["4.weight"]


def _elsewhere(state: dict[str, Tensor]) -> None:
    for name in ("V", "alpha"):
        state[f"1.{name}"] = state[f"2.{name}"]


def _wrong_size(state: dict[str, Tensor]) -> None:
    state["2.V"] = state["2.V"][:, 1:]


def _plain(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if not name.startswith("4.")]:
        del state[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_head, r"the official state does not fit the model: it lacks 4\.weight"),
        (_elsewhere, "layer '1', but the model has no linear layer there"),
        (_wrong_size, r"V has shape \(12, 11\)"),
        (_plain, r"no layer of the published code.*load_state_dict"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Any, message: str) -> None:
    state, _, _ = published(True)
    change(state)
    model = dense()
    before = list(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_official_(model, state)
    assert list(model) == before[0]
    assert all(torch.equal(before[1][name], tensor) for name, tensor in model.state_dict().items())
