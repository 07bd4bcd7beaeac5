"""What only a card can show: streams, graphs, the compiler of torch, and the memory checker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

import dynadiag as dd
from dynadiag import kernels
from tests.kernels.cuda.problems import draw

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CHECKED = """
import torch
from dynadiag import kernels
cuda = kernels.get("cuda")
for m, n in ((97, 97), (497, 31), (31, 497)):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for batch in (1, 17, 197):
            k, d = max(m, n) // 3, min(m, n)
            x, grad = (torch.randn(batch, size, device="cuda", dtype=dtype) for size in (n, m))
            values = torch.randn(k, d, device="cuda", dtype=dtype)
            offsets = torch.randperm(max(m, n), device="cuda")[:k].int()
            cuda.forward(x, values, offsets, None, m)
            cuda.grad_x(grad, values, offsets, n)
            cuda.grad_values(grad, x, offsets)
torch.cuda.synchronize()
"""


def test_products_can_be_captured_in_a_graph() -> None:
    problem = draw(768, 768, 77, 40, torch.bfloat16).to("cuda")
    backend = kernels.get("cuda")
    expected = problem.products(backend)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = problem.products(backend)
    for result in captured.values():
        result.zero_()
    graph.replay()
    assert all(torch.equal(captured[name], expected[name]) for name in expected)


def test_work_is_queued_on_the_current_stream() -> None:
    problem = draw(768, 768, 77, 40, torch.float32).to("cuda")
    backend = kernels.get("cuda")
    expected = problem.products(backend)
    late = problem.map(torch.zeros_like)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)  # the operands arrive long after the products are queued
        for target, source in zip(late.flat, problem.flat, strict=True):
            target.copy_(source)
        late.values.copy_(problem.values)
        late.bias.copy_(problem.bias)
        results = late.products(backend)
        torch.cuda.current_stream().synchronize()
    assert all(torch.equal(results[name], expected[name]) for name in expected)


@pytest.mark.parametrize("shape", [(768, 768), (768, 3072), (3072, 768)], ids=str)
def test_a_compiled_layer_gives_the_same(shape: tuple[int, int]) -> None:
    layer = dd.nn.DiagonalLinear(*shape, sparsity=0.9, device="cuda", backend="cuda")
    x = torch.randn(40, shape[0], device="cuda", requires_grad=True)

    def step(call: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        y = call(x)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]

    compiled = torch.compile(layer, fullgraph=True)
    for found, expected in zip(step(compiled), step(layer), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_memory_checker_finds_nothing() -> None:
    checker = shutil.which("compute-sanitizer")
    if checker is None:
        pytest.skip("compute-sanitizer is not installed")
    command = [checker, "--error-exitcode", "1", sys.executable, "-c", CHECKED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
