from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.dst.candidates import Candidate
from dynadiag.dst.split import SplitLinear, check_split, count_parts
from dynadiag.nn import CSRLinear, DiagonalLinear


def fused(bias: bool = True) -> SplitLinear:
    return SplitLinear(DiagonalLinear(4, 6, bias, sparsity=0.5) for _ in range(3))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (0, 4)])
def test_computes_with_its_weight(bias: bool, shape: tuple[int, ...]) -> None:
    layer, x = fused(bias), torch.randn(shape)
    assert (layer.in_features, layer.out_features) == (4, 18)
    assert (layer.bias is not None) == bias
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_gradients_reach_every_part() -> None:
    layer = fused()
    (layer(torch.randn(2, 4)).sum() + layer.weight.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("bias", [True, False])
def test_one_dense_layer_computes_the_same(bias: bool) -> None:
    layer, x = fused(bias).double(), torch.randn(2, 4).double()
    dense = layer.to_linear()
    assert type(dense) is nn.Linear
    torch.testing.assert_close(dense(x), layer(x))


@pytest.mark.parametrize(
    ("name", "out_features", "parts"),
    [
        ("blocks.0.attn.qkv", 24, 3),
        ("h.0.attn.c_attn", 24, 3),
        ("attn.in_proj", 24, 3),
        ("Wqkv", 24, 3),
        ("layers.0.to_qkv", 24, 3),
        ("self_attn.qkv_proj", 24, 3),
        ("crossattention.c_attn", 16, 1),
        ("proj", 24, 1),
        ("attention.query_key_value", 24, 1),
    ],
)
def test_auto_knows_the_usual_names(name: str, out_features: int, parts: int) -> None:
    assert count_parts(Candidate(name, out_features, 8, None), "auto") == parts


def test_numbers_of_parts_by_pattern() -> None:
    layer = Candidate("blocks.0.attn.kv", 16, 8, None)
    assert count_parts(layer, {"attn.kv": 2, "blocks": 4}) == 2
    assert count_parts(layer, {"qkv": 3}) == 1
    assert count_parts(layer, {}) == 1
    for parts in (0, 3, 2.0):
        with pytest.raises(ValueError, match=f"16 outputs, which {parts} parts cannot"):
            count_parts(layer, {"kv": parts})  # type: ignore[dict-item]


def test_memory_is_that_of_all_parts() -> None:
    parts = [CSRLinear(8, 6, sparsity=0.5), CSRLinear(8, 6, sparsity=0.75)]
    layer = SplitLinear(parts)
    assert (layer.nnz, layer.sparsity) == (36, 0.625)
    assert layer.weight_bytes == sum(part.weight_bytes for part in parts)


def test_split_is_auto_or_a_mapping() -> None:
    check_split("auto")
    check_split({"qkv": 3})
    with pytest.raises(ValueError, match="split is 'always'; pass 'auto'"):
        check_split("always")  # type: ignore[arg-type]
