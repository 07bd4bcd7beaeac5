from __future__ import annotations

import pytest
import torch

from dynadiag import masked_operators

OPS = torch.ops.dynadiag
FLAGS = [torch.tensor(False), torch.tensor(True)]


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_opcheck(flag: torch.Tensor) -> None:
    values, mask = torch.randn(5, 4, requires_grad=True), torch.rand(5, 4) < 0.5
    torch.library.opcheck(OPS.masked.default, (values, mask, flag))
    torch.library.opcheck(OPS.masked_gradient.default, (values, mask, flag))


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_masked_values_and_their_gradient(flag: torch.Tensor) -> None:
    values, mask = torch.randn(5, 4, requires_grad=True), torch.rand(5, 4) < 0.5
    weight = masked_operators.masked(values, mask, flag)
    assert torch.equal(weight, values * mask)
    upstream = torch.randn(5, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(weight, values, upstream, create_graph=True)
    assert torch.equal(grad, upstream * (mask | flag))
    (back,) = torch.autograd.grad(grad.sum(), upstream)
    assert torch.equal(back, (mask | flag).float())
