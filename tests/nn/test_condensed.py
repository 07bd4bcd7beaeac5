from __future__ import annotations

import pytest
import torch
from torch import nn

from dynadiag.nn.condensed import CondensedLinear


def test_from_linear_keeps_the_largest_of_each_row() -> None:
    linear = nn.Linear(4, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[9.0, -5.0, 7.0, 8.0], [0.1, 0.3, -0.2, 0.0]]))
    layer = CondensedLinear.from_linear(linear, sparsity=0.5)
    assert layer.indices.tolist() == [[0, 3], [1, 2]]
    torch.testing.assert_close(layer.values.detach(), torch.tensor([[9.0, 8.0], [0.3, -0.2]]))


def test_weight_bytes() -> None:
    layer = CondensedLinear(8, 4, sparsity=0.75)
    assert layer.weight_bytes == 8 * 4 + 8 * 4
    assert layer.index_dtype == "int32"


@pytest.mark.parametrize(("sparsity", "fan_in"), [(0.0, 7), (0.6, 3), (0.99, 1)])
def test_fan_in_is_the_same_in_every_row(sparsity: float, fan_in: int) -> None:
    layer = CondensedLinear(7, 5, sparsity=sparsity)
    assert (layer.weight != 0).sum(1).tolist() == [fan_in] * 5
    assert layer.sparsity == pytest.approx(1 - fan_in / 7)
