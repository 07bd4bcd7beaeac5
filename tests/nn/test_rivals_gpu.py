"""The rivals on a card, every formulation that is possible there, against dense in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from dynadiag.nn import cusparse_csr, cusparse_prepared, tuning_cuda
from dynadiag.nn.base import SparseLinear
from dynadiag.nn.block import BlockLinear
from dynadiag.nn.condensed import CondensedLinear
from dynadiag.nn.csr import CSRLinear
from dynadiag.nn.dia_ust import DiaUstLinear
from dynadiag.nn.nm import NMLinear
from dynadiag.nn.rows import written_out
from dynadiag.nn.tuned import TunedSparseLinear

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
LAYERS: dict[str, tuple[type[TunedSparseLinear], dict[str, Any]]] = {
    "csr": (CSRLinear, {"sparsity": 0.9}),
    "nm": (NMLinear, {"sparsity": 0.5}),
    "block16": (BlockLinear, {"sparsity": 0.9, "block": 16}),
    "block64": (BlockLinear, {"sparsity": 0.9, "block": 64}),
    "condensed": (CondensedLinear, {"sparsity": 0.9}),
}


def cases() -> Iterator[tuple[str, str | None]]:
    for name, (layer, _) in LAYERS.items():
        yield name, None
        if layer is not CondensedLinear:
            yield from ((name, formulation) for formulation in layer.formulations)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", [1, 16, 197])
@pytest.mark.parametrize(("name", "formulation"), list(cases()))
def test_output_and_gradients_equal_dense(
    name: str, formulation: str | None, batch: int, dtype: torch.dtype
) -> None:
    make, structure = LAYERS[name]
    if formulation is not None:
        structure = {**structure, "formulation": formulation}
        reason = make.why_not(768, 1536, dtype=dtype, device="cuda", **structure)
        if reason is not None:
            pytest.skip(reason)
    layer = make(768, 1536, device="cuda", dtype=dtype, **structure)
    x = torch.randn(batch, 768, device="cuda", dtype=dtype, requires_grad=True)
    y = layer(x)
    g = torch.randn_like(y)
    y.backward(g)
    assert layer.bias is not None
    leaves = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
    expected = functional.linear(*leaves)
    grad_x, grad_weight, _ = torch.autograd.grad(expected, leaves, g.double())
    assert x.grad is not None
    assert layer.values.grad is not None
    allowed = TOLERANCE[dtype]
    assert relative_error(y.detach(), expected.detach()) < allowed, layer.config
    assert relative_error(x.grad, grad_x) < allowed, layer.config
    assert relative_error(layer.values.grad, layer._gather(grad_weight)) < allowed, layer.config
    if formulation is not None:
        assert f"forward {formulation}" in layer.config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_way_of_cusparse_that_works_follows_new_values(dtype: torch.dtype) -> None:
    rows = CSRLinear(768, 1536, sparsity=0.9, device="cuda")._rows()
    values = torch.randn(len(rows.columns), device="cuda", dtype=dtype)
    xt = torch.randn(197, 768, device="cuda", dtype=dtype).t()
    ways = cusparse_csr.ways(rows, values, xt) | cusparse_prepared.ways(rows, values, xt)
    working, left_out = tuning_cuda.sift(ways)
    assert len(working) >= 4, left_out
    values.copy_(torch.randn_like(values))
    expected = written_out(rows, values).double() @ xt.double()
    for name, way in working.items():
        assert relative_error(way(), expected) < TOLERANCE[dtype], name


@pytest.mark.parametrize("name", LAYERS)
def test_forward_in_a_captured_graph_on_a_side_stream(name: str) -> None:
    make, structure = LAYERS[name]
    layer: SparseLinear = make(768, 768, device="cuda", dtype=torch.bfloat16, **structure)
    x = torch.randn(16, 768, device="cuda", dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        expected = layer(x)
        with torch.cuda.graph(graph):
            y = layer(x)
        y.zero_()
        graph.replay()
    torch.testing.assert_close(y, expected)


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_a_size_never_seen_cannot_be_captured() -> None:
    layer = CSRLinear(768, 776, sparsity=0.9, device="cuda")
    x = torch.randn(3, 768, device="cuda")
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match="call the layer once before"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        layer(x)


def test_dia_by_nvmath() -> None:
    reason = DiaUstLinear.why_not(768, 3072, 0.9, torch.float32, device="cuda")
    if reason is not None:
        pytest.skip(reason)
    layer = DiaUstLinear(768, 3072, sparsity=0.9, device="cuda")
    x = torch.randn(197, 768, device="cuda")
    with torch.no_grad():
        y = layer(x)
    assert layer.bias is not None
    expected = functional.linear(x.double(), layer.weight.double(), layer.bias.double())
    assert relative_error(y, expected.detach()) < 1e-4
