from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional as F

from dynadiag import kernels
from dynadiag.kernels.activation import ACTIVATIONS, activate


@pytest.mark.parametrize("name", ["reference", "dense", "cpu"])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_backends_apply_it_to_their_result(name: str, activation: str | None) -> None:
    backend = kernels.get(name)
    with warnings.catch_warnings(action="ignore"):
        reason = backend.unavailable()
    if reason is not None:
        pytest.skip(reason)
    torch.manual_seed(0)
    x, values, bias = torch.randn(5, 6), torch.randn(3, 6), torch.randn(9)
    offsets = torch.tensor([0, 4, 8], dtype=torch.int32)
    y = backend.forward(x, values, offsets, bias, 9, activation)
    plain = backend.forward(x, values, offsets, bias, 9)
    functions = {None: lambda z: z, "relu": F.relu, "gelu": F.gelu, "silu": F.silu}
    torch.testing.assert_close(y, functions[activation](plain))


def test_the_reference_rounds_16_bits_once() -> None:
    torch.manual_seed(0)
    x, values = torch.randn(50, 16).bfloat16(), torch.randn(4, 16).bfloat16()
    offsets = torch.arange(4, dtype=torch.int32)
    reference = kernels.get("reference")
    y = reference.forward(x, values, offsets, None, 16, "gelu")
    wide = reference.forward(x.float(), values.float(), offsets, None, 16, "gelu")
    assert torch.equal(y, wide.bfloat16())


@pytest.mark.parametrize("name", ["reference", "dense", "cpu", "cuda"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    x, values, offsets = torch.randn(1, 2), torch.randn(1, 2), torch.zeros(1, dtype=torch.int32)
    backend = kernels.get(name)
    with warnings.catch_warnings(action="ignore"):
        if name == "cpu" and backend.unavailable() is not None:
            pytest.skip("no compiled kernels")
    with pytest.raises(ValueError, match="unknown activation 'tanh'; known are relu, gelu, silu"):
        backend.forward(x, values, offsets, None, 2, "tanh")


def test_none_leaves_the_tensor_itself() -> None:
    y = torch.randn(3)
    assert activate(y, None) is y
