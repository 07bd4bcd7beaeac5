from __future__ import annotations

import copy

import pytest
import torch

from dynadiag.nn import cusparse_prepared
from dynadiag.nn.csr import CSRLinear
from dynadiag.nn.rows import Rows, written_out

from .fake_cusparse import FakeCusparse


@pytest.mark.parametrize("name", list(cusparse_prepared._WAYS))
def test_prepared_once_and_right_when_the_values_change(library: FakeCusparse, name: str) -> None:
    starts = torch.tensor([0, 1, 1, 3, 4], dtype=torch.int32)
    rows = Rows(starts, torch.tensor([1, 0, 2, 1], dtype=torch.int32), (4, 3))
    for _ in range(3):
        values, xt = torch.randn(4), torch.randn(5, 3).t()
        product = cusparse_prepared.ways(rows, values, xt)[name]()
        torch.testing.assert_close(product, written_out(rows, values) @ xt)
    assert library.preparations == 1
    cusparse_prepared.ways(rows, values, torch.randn(3, 6))[name]()
    assert library.preparations == 2
    assert len(library.alive) == 2


@pytest.mark.usefixtures("forget")
def test_copies_of_a_layer_share_nothing(library: FakeCusparse) -> None:
    layer = CSRLinear(24, 16, sparsity=0.75, formulation="cusparse")
    x = torch.randn(5, 24)
    with torch.no_grad():
        layer(x)
        twin = copy.deepcopy(layer)
        twin.values.mul_(2)
        for either in (layer, twin):
            expected = torch.nn.functional.linear(x, either.weight, either.bias)
            torch.testing.assert_close(either(x), expected)


def test_a_pattern_takes_what_was_prepared_with_it(library: FakeCusparse) -> None:
    rows = Rows.even(torch.tensor([[0], [1]], dtype=torch.int32), 2)
    cusparse_prepared.ways(rows, torch.ones(2), torch.ones(2, 3))["cusparse(alg1 row prepared)"]()
    assert library.alive
    del rows
    assert not library.alive
