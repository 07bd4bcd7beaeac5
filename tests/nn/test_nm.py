from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.nn.nm import NMLinear, nearest_pair


def test_from_linear_keeps_the_largest_of_each_group() -> None:
    linear = nn.Linear(8, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[9.0, -8.0, 7.0, 6.0, 0.1, 0.0, -0.3, 0.2]]))
    layer = NMLinear.from_linear(linear, n=2, m=4)
    assert layer.indices.tolist() == [[0, 1, 2, 3]]
    torch.testing.assert_close(layer.values.detach(), torch.tensor([[9.0, -8.0, -0.3, 0.2]]))


def test_every_group_keeps_n() -> None:
    layer = NMLinear(24, 5, n=3, m=8)
    assert (layer.weight != 0).view(5, 3, 8).sum(2).tolist() == [[3] * 3] * 5
    assert layer.sparsity == layer.requested_sparsity == 0.625


def test_weight_bytes() -> None:
    layer = NMLinear(8, 4, n=1, m=4)
    assert layer.weight_bytes == 8 * 4 + 8
    assert layer.index_dtype == "uint8"


@pytest.mark.parametrize(
    ("sparsity", "pair"),
    [
        (0.5, (2, 4)),
        (0.75, (1, 4)),
        (0.8, (13, 64)),
        (0.9, (13, 128)),
        (0.95, (3, 64)),
        (0.99, (1, 128)),
        (0.0, (4, 4)),
    ],
)
def test_nearest_pair_of_768(sparsity: float, pair: tuple[int, int]) -> None:
    assert nearest_pair(768, sparsity) == pair
    assert NMLinear.why_not(768, 768, sparsity) is None


@pytest.mark.parametrize(
    ("in_features", "sparsity", "reason"),
    [
        (7, 0.5, "in_features is 7.*multiple of one of 4, 8"),
        (48, 0.99, r"1:16 \(0.9375\)"),
        (4, 0.6, r"2:4 \(0.5\)"),
    ],
)
def test_unreachable_is_refused(in_features: int, sparsity: float, reason: str) -> None:
    why = NMLinear.why_not(in_features, 8, sparsity)
    assert why is not None
    with pytest.raises(ValueError, match=reason) as caught:
        NMLinear(in_features, 8, sparsity=sparsity)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        ({}, "either sparsity, or n and m"),
        ({"n": 2}, "either sparsity, or n and m"),
        ({"sparsity": 0.5, "n": 2, "m": 4}, "either sparsity, or n and m"),
        ({"n": 0, "m": 4}, "0:4 is impossible"),
        ({"n": 5, "m": 4}, "5:4 is impossible"),
        ({"n": 1, "m": 5}, "1:5 is impossible for in_features = 512"),
        ({"n": 1, "m": 512}, "m at most 256"),
    ],
)
def test_bad_structure(structure: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        NMLinear(512, 8, **structure)  # type: ignore[arg-type]


def test_groups_as_large_as_a_byte_allows() -> None:
    layer = NMLinear(512, 3, n=256, m=256)
    x = torch.randn(2, 512)
    assert layer.sparsity == 0
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_an_index_outside_its_group_is_refused() -> None:
    layer = NMLinear(8, 1, n=1, m=4)
    state = layer.state_dict() | {"indices": torch.tensor([[4, 1]], dtype=torch.uint8)}
    with pytest.raises(RuntimeError, match="not below m = 4"):
        layer.load_state_dict(state)


def test_repr_names_the_pattern() -> None:
    assert repr(NMLinear(8, 4, n=1, m=4)).endswith("sparsity=0.75, n=1, m=4)")
