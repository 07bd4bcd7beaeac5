from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import dynadiag as dd
from dynadiag import kernels
from dynadiag.bench.memory import peak_bytes

DENSE, REFERENCE = kernels.get("dense"), kernels.get("reference")


def draw(m: int, n: int, k: int, batch: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, gradient of y, values, offsets."""
    torch.manual_seed(0)
    offsets = torch.randperm(max(m, n))[:k].int()
    return torch.randn(batch, n), torch.randn(batch, m), torch.randn(k, min(m, n)), offsets


def assert_current(x: Tensor, grad: Tensor, values: Tensor, offsets: Tensor) -> None:
    """Every product equals the reference of what values and offsets hold now."""
    m, n = grad.shape[-1], x.shape[-1]
    for ours, theirs in (
        (
            DENSE.forward(x, values, offsets, None, m),
            REFERENCE.forward(x, values, offsets, None, m),
        ),
        (DENSE.grad_x(grad, values, offsets, n), REFERENCE.grad_x(grad, values, offsets, n)),
        (DENSE.grad_values(grad, x, offsets), REFERENCE.grad_values(grad, x, offsets)),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (9, 4), (4, 9), (97, 49)], ids=str)
def test_products_equal_the_reference(shape: tuple[int, int]) -> None:
    for k in {1, max(1, max(shape) // 2), max(shape)}:
        assert_current(*draw(*shape, k))


def test_changes_of_values_and_offsets_in_place_are_seen() -> None:
    x, grad, values, offsets = draw(9, 4, 3)
    values.requires_grad_()
    assert_current(x, grad, values.detach(), offsets)
    assert_current(x, grad, values, offsets)
    with torch.no_grad():
        values.mul_(2)
        assert_current(x, grad, values, offsets)
        values.data[0, 0] += 1  # leaves no trace in the version
        assert_current(x, grad, values, offsets)
        values.data = torch.randn_like(values)
        assert_current(x, grad, values, offsets)
        values.detach().numpy()[1, 1] = 7
        assert_current(x, grad, values, offsets)
        offsets.copy_((offsets + 1) % 9)
        assert_current(x, grad, values, offsets)
        offsets.data[:] = offsets.flip(0)
        assert_current(x, grad, values, offsets)


def test_an_optimizer_step_is_seen() -> None:
    layer = dd.nn.DiagonalLinear(8, 8, num_diagonals=2, backend="dense")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    x = torch.randn(3, 8)
    for _ in range(3):
        layer(x).square().sum().backward()
        optimizer.step()
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_the_same_values_serve_two_shapes() -> None:
    values, offsets = torch.randn(2, 4), torch.tensor([0, 3], dtype=torch.int32)
    for m in (6, 9, 6):
        assert_current(torch.randn(5, 4), torch.randn(5, m), values, offsets)
    wide = torch.randn(5, 6), torch.randn(5, 4)
    assert_current(*wide, values, offsets)


def test_two_layers_do_not_mix() -> None:
    layers = [dd.nn.DiagonalLinear(8, 8, num_diagonals=3, backend="dense") for _ in range(2)]
    layers[1].offsets = layers[0].offsets  # even where they share their offsets
    x = torch.randn(3, 8)
    for _ in range(2):
        for layer in layers:
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_change_of_dtype_is_seen() -> None:
    layer = dd.nn.DiagonalLinear(8, 8, num_diagonals=3, backend="dense")
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
        layer.to(dtype)  # keeps the Parameter and changes its data
        x = torch.randn(3, 8, dtype=dtype)
        y = layer(x)
        assert y.dtype == dtype
        torch.testing.assert_close(y, F.linear(x, layer.weight, layer.bias))


def test_the_weight_is_scattered_once() -> None:
    m, n, k = 512, 512, 2
    x, grad, values, offsets = draw(m, n, k)
    for call in (
        lambda: DENSE.forward(x, values, offsets, None, m),
        lambda: DENSE.grad_x(grad, values, offsets, n),
    ):
        peak = peak_bytes(call)  # of the calls after the first
        assert peak.reason is None
        assert peak.bytes is not None
        assert peak.bytes < m * n * 4 / 8


def matrices_of(m: int, n: int) -> int:
    gc.collect()
    alive = (thing for thing in gc.get_objects() if type(thing) is Tensor)
    return len({t.untyped_storage().data_ptr() for t in alive if t.numel() == m * n})


def test_the_weight_goes_with_the_layer() -> None:
    layer = dd.nn.DiagonalLinear(211, 307, num_diagonals=2, backend="dense")
    layer(torch.randn(3, 211)).sum().backward()
    assert matrices_of(307, 211) == 1
    del layer
    assert matrices_of(307, 211) == 0


def test_nan_among_the_values_is_kept() -> None:
    x, _, values, offsets = draw(9, 4, 3)
    values[1, 2] = float("nan")
    for _ in range(2):
        y = DENSE.forward(x, values, offsets, None, 9)
        assert bool(y.isnan().any(0).sum() == 1)
    values[1, 2] = 1
    assert bool(DENSE.forward(x, values, offsets, None, 9).isfinite().all())


@pytest.mark.parametrize("offsets", [[0, 0], [-1, 0], [0, 9]], ids=str)
def test_bad_offsets_are_refused_and_leave_nothing_behind(offsets: list[int]) -> None:
    x, grad, values, good = draw(9, 4, 2)
    bad = torch.tensor(offsets, dtype=torch.int32)
    calls: tuple[Callable[[], Tensor], ...] = (
        lambda: DENSE.forward(x, values, bad, None, 9),
        lambda: DENSE.grad_x(grad, values, bad, 4),
        lambda: DENSE.grad_values(grad, x, bad),
    )
    for call in calls:
        with pytest.raises(ValueError, match="offset"):
            call()
        with pytest.raises(ValueError, match="offset"):
            call()
    assert_current(x, grad, values, good)
