from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.nn.masked_dense import MaskedDenseLinear


def test_from_linear_masks_the_small_weights() -> None:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -5.0, 2.0], [0.5, 0.25, -6.0]]))
    layer = MaskedDenseLinear.from_linear(linear, sparsity=0.5)
    assert layer.weight.tolist() == [[0.0, -5.0, 2.0], [0.0, 0.0, -6.0]]
    assert layer.nnz == 3


def test_weight_bytes_are_dense_values_and_mask() -> None:
    layer = MaskedDenseLinear(8, 4, sparsity=0.75)
    assert layer.weight_bytes == 32 * 4 + 32
    assert layer.index_dtype is None


def test_masked_values_have_no_effect_and_no_gradient() -> None:
    layer = MaskedDenseLinear(8, 4, sparsity=0.75)
    x = torch.randn(3, 8)
    before = layer(x)
    before.sum().backward()
    with torch.no_grad():
        layer.values[~layer.mask] = 1e6
    assert torch.equal(layer(x), before)
    assert layer.values.grad is not None
    assert not layer.values.grad[~layer.mask].any()


def test_a_mask_of_another_size_is_refused() -> None:
    layer, denser = MaskedDenseLinear(8, 4, sparsity=0.75), MaskedDenseLinear(8, 4, sparsity=0.5)
    with pytest.raises(RuntimeError, match="keeps 16 weights instead of 8"):
        layer.load_state_dict(denser.state_dict())


def test_values_outside_the_mask_are_zero_from_the_start() -> None:
    layer = MaskedDenseLinear(8, 4, sparsity=0.75)
    assert torch.equal(layer.values != 0, layer.mask)
    again = MaskedDenseLinear.from_linear(nn.Linear(8, 4), sparsity=0.75)
    assert torch.equal(again.values != 0, again.mask)


def test_dropped_values_are_zeroed() -> None:
    layer = MaskedDenseLinear(8, 4, sparsity=0.75)
    after = layer.active().roll(1, 0)
    layer.set_active(after)
    assert not layer.values[~after].any()


def test_a_method_may_save_and_load_a_mask_of_another_size() -> None:
    layer, other = (MaskedDenseLinear(8, 4, sparsity=0.75) for _ in range(2))
    more = layer.active()
    more[0] = True
    layer.set_active(more)
    other.method = "a method"
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.active(), more)
    assert other.kept == int(more.sum()) > other.num_active_target == 8
    empty = {**layer.state_dict(), "mask": torch.zeros(4, 8, dtype=torch.bool)}
    with pytest.raises(RuntimeError, match="keeps 0 weights"):
        other.load_state_dict(empty)


def test_compact_keeps_the_mask_even_where_weights_are_zero() -> None:
    layer = MaskedDenseLinear(8, 4, sparsity=0.75)
    layer.set_active(layer.active().roll(1, 0))
    small = layer.compact()
    small.values.data.fill_(1)
    assert torch.equal(small.weight != 0, layer.mask)
