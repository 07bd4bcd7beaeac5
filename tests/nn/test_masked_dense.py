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
