"""The C++ kernels against the dense product in float64, in every place an index can go wrong.

The slow tests at the end repeat the others with kernels built for other vector widths, and with the
sanitizers of the compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynadiag import geometry, kernels
from dynadiag.bench.memory import peak_bytes
from tests.kernels.offsets import some_offsets

pytestmark = pytest.mark.usefixtures("one_thread")

CPU, REFERENCE = kernels.get("cpu"), kernels.get("reference")
SHAPES = [
    *((1, 1), (1, 2), (2, 1), (2, 2), (31, 31), (48, 48), (97, 97), (497, 497)),
    *((49, 2), (97, 48), (98, 97), (497, 31), (698, 1), (698, 497)),
    *((2, 49), (48, 97), (97, 98), (31, 497), (1, 698), (497, 698)),
]
BATCHES = [1, 3, 7, 8, 17, 40, 49, 197]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _compiled() -> None:
    with warnings.catch_warnings(action="ignore"):
        reason = CPU.unavailable()
    if reason is not None:
        pytest.skip(reason)


@dataclass(frozen=True)
class Operands:
    """One problem; `offsets` are in random order and, where there are two, wrap at both ends."""

    m: int
    n: int
    x: Tensor
    grad: Tensor
    values: Tensor
    offsets: Tensor
    bias: Tensor

    @property
    def weight(self) -> Tensor:
        """W in float64."""
        dense = torch.zeros(self.m, self.n, dtype=torch.float64)
        dense[geometry.cells(self.offsets, self.m, self.n)] = self.values.double()
        return dense

    def products(self, backend: kernels.Backend = CPU) -> tuple[Tensor, Tensor, Tensor]:
        """y, dx and dV."""
        return (
            backend.forward(self.x, self.values, self.offsets, self.bias, self.m),
            backend.grad_x(self.grad, self.values, self.offsets, self.n),
            backend.grad_values(self.grad, self.x, self.offsets),
        )

    def exact(self, x: Tensor, grad: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        """The three products of dense float64 operands."""
        pattern = geometry.cells(self.offsets, self.m, self.n)
        return x @ weight.T + bias, grad @ weight, (grad.T @ x)[pattern]


def draw(m: int, n: int, k: int, batch: int, dtype: torch.dtype = torch.float32) -> Operands:
    torch.manual_seed(m * 1009 + n * 31 + k + batch)
    return Operands(
        m,
        n,
        torch.randn(batch, n).to(dtype),
        torch.randn(batch, m).to(dtype),
        torch.randn(k, min(m, n)).to(dtype),
        some_offsets(max(m, n), k),
        torch.randn(m).to(dtype),
    )


def assert_rounded(result: Tensor, exact: Tensor, magnitude: Tensor, terms: int) -> None:
    """Float32 sums of `terms` terms whose magnitudes add up to `magnitude`, then one rounding."""
    assert result.shape == exact.shape
    info = torch.finfo(result.dtype)
    bound = terms * 2.0**-23 * magnitude + info.eps * exact.abs() + info.smallest_normal
    worst = ((result.double() - exact).abs() - bound).max()
    assert worst <= 0, f"off by {worst:.3g} more than rounding explains"


def assert_exact_up_to_rounding(p: Operands) -> None:
    wide = (p.x.double(), p.grad.double(), p.weight, p.bias.double())
    exact = p.exact(*wide)
    magnitudes = p.exact(*(operand.abs() for operand in wide))
    terms = (len(p.offsets) + 2, len(p.offsets) + 2, len(p.x) + 2)
    for result, e, magnitude, t in zip(p.products(), exact, magnitudes, terms, strict=True):
        assert result.dtype == p.x.dtype
        assert_rounded(result, e, magnitude, t)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_directions_equal_the_dense_products(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    candidates = max(shape)
    for k in {1, min(5, candidates), (candidates + 1) // 2, candidates}:
        for batch in BATCHES if candidates < 100 else BATCHES[k % 2 :: 2]:
            assert_exact_up_to_rounding(draw(*shape, k, batch, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_large_odd_matrix(dtype: torch.dtype) -> None:
    p = draw(3081, 3081, 31, 17, dtype)
    double = replace(
        p,
        x=p.x.double(),
        grad=p.grad.double(),
        values=p.values.double(),
        bias=p.bias.double(),
    )
    for result, exact in zip(p.products(), double.products(REFERENCE), strict=True):
        torch.testing.assert_close(result.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-4)


@settings(max_examples=200, deadline=None)
@given(
    m=st.integers(1, 150),
    n=st.integers(1, 150),
    share=st.floats(0, 1),
    batch=st.integers(0, 70),
    seed=st.integers(0, 9999),
)
def test_any_shape_to_the_last_bit(m: int, n: int, share: float, batch: int, seed: int) -> None:
    """Small integers: every sum is exact in float32, whatever its order."""
    torch.manual_seed(seed)
    candidates = max(m, n)
    p = Operands(
        m,
        n,
        torch.randint(-8, 9, (batch, n)).float(),
        torch.randint(-8, 9, (batch, m)).float(),
        torch.randint(-8, 9, (max(1, round(share * candidates)), min(m, n))).float(),
        torch.randperm(candidates)[: max(1, round(share * candidates))].int(),
        torch.randint(-8, 9, (m,)).float(),
    )
    exact = p.exact(p.x.double(), p.grad.double(), p.weight, p.bias.double())
    for result, expected in zip(p.products(), exact, strict=True):
        assert torch.equal(result.double(), expected)


@pytest.mark.parametrize(("count", "batch"), [(1, 1), (1, 40), (70, 40)])
@pytest.mark.parametrize("shape", [(97, 97), (97, 48), (48, 97)], ids=str)
def test_every_place_a_diagonal_can_begin(shape: tuple[int, int], count: int, batch: int) -> None:
    p = draw(*shape, count, batch)
    for first in range(max(shape)):
        p.offsets.copy_((torch.arange(count) + first) % max(shape))
        assert_exact_up_to_rounding(p)


def test_without_bias() -> None:
    for batch in (1, 40):
        p = draw(97, 48, 9, batch)
        y = CPU.forward(p.x, p.values, p.offsets, None, p.m)
        zero = CPU.forward(p.x, p.values, p.offsets, torch.zeros(97), p.m)
        assert torch.equal(y, zero)
        torch.testing.assert_close(y.double(), p.x.double() @ p.weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 17, 49, 197])
@pytest.mark.parametrize("k", [20, 100])
@pytest.mark.parametrize("shape", [(497, 497), (698, 497), (497, 698)], ids=str)
def test_the_number_of_threads_changes_nothing(shape: tuple[int, int], k: int, batch: int) -> None:
    p = draw(*shape, k, batch)
    alone = p.products()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        for one, more in zip(alone, p.products(), strict=True):
            assert torch.equal(one, more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", [3, 40])
@pytest.mark.parametrize("share", [0.07, 0.8])
@pytest.mark.parametrize("shape", [s for s in SHAPES if max(s) < 200], ids=str)
def test_nan_and_infinity_reach_exactly_the_outputs_they_should(
    shape: tuple[int, int], share: float, batch: int, dtype: torch.dtype
) -> None:
    m, n = shape
    p = draw(m, n, max(1, int(share * max(shape))), batch, dtype)
    p.x[0, n // 2], p.x[-1, 0], p.x[1, n - 1] = float("nan"), float("inf"), float("-inf")
    p.grad[0, m // 2], p.grad[-1, 0], p.grad[1, m - 1] = float("nan"), float("inf"), float("-inf")
    kept = (p.weight != 0).double()
    bad_x, bad_grad = (~p.x.isfinite()).double(), (~p.grad.isfinite()).double()
    ones_x, ones_grad = torch.ones_like(bad_x), torch.ones_like(bad_grad)
    y, dx, _ = p.products()
    assert torch.equal(~y.isfinite(), bad_x @ kept.T > 0)
    assert torch.equal(~dx.isfinite(), bad_grad @ kept > 0)
    nan = p.x.isnan().double() @ kept.T > 0
    assert bool(y.isnan()[nan].all())
    cells = geometry.cells(p.offsets, m, n)
    dv = CPU.grad_values(torch.ones_like(p.grad), p.x, p.offsets)
    assert torch.equal(~dv.isfinite(), (ones_grad.T @ bad_x)[cells] > 0)
    dv = CPU.grad_values(p.grad, torch.ones_like(p.x), p.offsets)
    assert torch.equal(~dv.isfinite(), (bad_grad.T @ ones_x)[cells] > 0)


@pytest.mark.parametrize(("k", "batch"), [(7, 3), (7, 40), (90, 40)])
def test_nan_among_the_values_reaches_its_own_output(k: int, batch: int) -> None:
    p = draw(97, 49, k, batch)
    p.values[3, 20] = float("nan")
    row, column = (int(c[3, 20]) for c in geometry.cells(p.offsets, p.m, p.n))
    y, dx, dv = p.products()
    assert y.isnan().any(0).nonzero().tolist() == [[row]]
    assert dx.isnan().any(0).nonzero().tolist() == [[column]]
    assert bool(dv.isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("k", "batch"), [(7, 0), (7, 1), (7, 40), (90, 40)])
def test_every_output_is_written_and_no_input(k: int, batch: int, dtype: torch.dtype) -> None:
    # Fills what torch.empty returns with NaN; the earlier calls leave NaN in the kernels' scratch.
    for shape in ((97, 49), (49, 97), (97, 97)):
        p = draw(*shape, k, batch, dtype)
        inputs = (p.x, p.grad, p.values, p.offsets, p.bias)
        before = [t.clone() for t in inputs]
        clean = p.products()
        for diagonals in (7, 90):
            big = draw(300, 300, diagonals, 100, dtype)
            big.x.fill_(float("nan"))
            big.grad.fill_(float("nan"))
            big.products()
        torch.use_deterministic_algorithms(True)
        try:
            assert bool(torch.empty(3).isnan().all())
            poisoned = p.products()
        finally:
            torch.use_deterministic_algorithms(False)
        assert all(torch.equal(a, b) for a, b in zip(clean, poisoned, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))


@pytest.mark.parametrize(("k", "batch"), [(7, 3), (7, 40), (90, 40)])
def test_any_strides(k: int, batch: int) -> None:
    p = draw(49, 97, k, batch)
    expected = p.products()

    def strided(t: Tensor) -> Tensor:
        wide = t.new_full((*t.shape[:-1], 2 * t.shape[-1]), 7)
        wide[..., ::2] = t
        return wide[..., ::2]

    def turned(t: Tensor) -> Tensor:
        return t.T.contiguous().T

    for change in (strided, turned):
        other = replace(
            p,
            x=change(p.x),
            grad=change(p.grad),
            values=change(p.values),
            bias=strided(p.bias),
        )
        assert not other.x.is_contiguous()
        for result, exact in zip(other.products(), expected, strict=True):
            assert torch.equal(result, exact)
    expanded = p.grad[:1].expand_as(p.grad)
    assert torch.equal(
        CPU.grad_x(expanded, p.values, p.offsets, p.n),
        CPU.grad_x(expanded.contiguous(), p.values, p.offsets, p.n),
    )


def test_strided_offsets() -> None:
    p = draw(8, 8, 2, 3)
    every_other = torch.tensor([3, 3, 5, 7], dtype=torch.int32)[::2]
    strided, packed = (replace(p, offsets=o) for o in (every_other, every_other.clone()))
    for result, expected in zip(strided.products(), packed.products(), strict=True):
        assert torch.equal(result, expected)
    out_of_range = torch.tensor([0, 1, 8, 2], dtype=torch.int32)[::2]
    with pytest.raises(ValueError, match="offset 8 is outside"):
        CPU.forward(p.x, p.values, out_of_range, None, 8)


@pytest.mark.parametrize(
    "lead", [(), (0,), (3, 0), (1,), (2, 3), (2, 3, 5, 7), (130, 131)], ids=str
)
def test_leading_dimensions(lead: tuple[int, ...]) -> None:
    p = draw(5, 3, 2, 1)
    x, grad = torch.randn(*lead, p.n), torch.randn(*lead, p.m)
    y = CPU.forward(x, p.values, p.offsets, p.bias, p.m)
    dx = CPU.grad_x(grad, p.values, p.offsets, p.n)
    dv = CPU.grad_values(grad, x, p.offsets)
    flat = Operands(
        p.m, p.n, x.reshape(-1, p.n), grad.reshape(-1, p.m), p.values, p.offsets, p.bias
    )
    exact = flat.exact(flat.x.double(), flat.grad.double(), p.weight, p.bias.double())
    assert y.shape == (*lead, p.m)
    assert dx.shape == (*lead, p.n)
    for result, expected in zip((y, dx, dv), exact, strict=True):
        torch.testing.assert_close(
            result.double(), expected.reshape(result.shape), rtol=1e-4, atol=1e-4
        )


def test_16_bit_sums_are_kept_in_float32() -> None:
    k = 257  # 1 + 256 terms of 2^-8 each: in bfloat16 every one of them would be lost
    values = torch.full((k, k), 2.0**-8, dtype=torch.bfloat16)
    values[0] = 1
    offsets = torch.arange(k, dtype=torch.int32)
    for batch in (1, 40):
        x = torch.ones(batch, k, dtype=torch.bfloat16)
        assert CPU.forward(x, values, offsets, None, k).unique().tolist() == [2.0]
    grad = torch.full((257, k), 2.0**-8, dtype=torch.bfloat16)
    grad[0] = 1
    ones = torch.ones(257, k, dtype=torch.bfloat16)
    assert CPU.grad_values(grad, ones, offsets).unique().tolist() == [2.0]


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 0], "offset 0 is given twice"),
        ([-1, 0], r"offset -1 is outside \[0, 9\)"),
        ([0, 9], r"offset 9 is outside \[0, 9\).*modulo 9"),
    ],
)
def test_bad_offsets_are_refused(offsets: list[int], message: str, batch: int) -> None:
    p = draw(9, 4, 2, batch)
    bad = torch.tensor(offsets, dtype=torch.int32)
    with pytest.raises(ValueError, match=message):
        CPU.forward(p.x, p.values, bad, p.bias, p.m)
    with pytest.raises(ValueError, match=message):
        CPU.grad_x(p.grad, p.values, bad, p.n)
    with pytest.raises(ValueError, match=message):
        CPU.grad_values(p.grad, p.x, bad)


@pytest.mark.parametrize(("k", "batch"), [(8, 197), (160, 1), (160, 8), (160, 197)])
@pytest.mark.parametrize("shape", [(768, 768), (1536, 384), (384, 1536)], ids=str)
def test_no_dense_weight_and_no_temporary_of_every_product(
    shape: tuple[int, int], k: int, batch: int
) -> None:
    m, n = shape
    p = draw(m, n, k, batch)
    x_bytes, y_bytes = p.x.nbytes, p.grad.nbytes
    limits = (y_bytes + x_bytes, x_bytes + y_bytes, p.values.nbytes + max(x_bytes, y_bytes))
    calls = (
        lambda: CPU.forward(p.x, p.values, p.offsets, p.bias, m),
        lambda: CPU.grad_x(p.grad, p.values, p.offsets, n),
        lambda: CPU.grad_values(p.grad, p.x, p.offsets),
    )
    for call, limit in zip(calls, limits, strict=True):
        peak = peak_bytes(call)
        assert peak.reason is None
        assert peak.bytes is not None
        assert peak.bytes <= limit
        assert peak.bytes < batch * k * min(shape) * 4 or batch == 1
        assert peak.bytes < m * n * 4 + x_bytes


def again(tests: str, cache: Path, flags: str, **environment: str) -> str:
    """Run tests with kernels built with these flags; return what pytest printed."""
    files = (__file__, str(Path(__file__).with_name("test_selected.py")))
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", *files, "-q", "-k", tests),
            *("-m", "not slow", "-p", "no:cacheprovider"),
        ],
        env=os.environ | {"DYNADIAG_CACHE": str(cache), "DYNADIAG_CXXFLAGS": flags} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert "skipped" not in done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_other_vector_widths(lanes: int, tmp_path: Path) -> None:
    tests = "dense_products or last_bit or diagonal_can_begin or nan or written or threads"
    assert " passed" in again(tests, tmp_path, f"-DDYNADIAG_LANES={lanes}")
    assert len(list(tmp_path.glob("cpu-*.so"))) == 1


def sanitizer(name: str) -> str:
    """Path of a sanitizer's runtime, as the compiler finds it."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("g++ is not installed, so there are no sanitizers")
    command = [compiler, f"-print-file-name=lib{name}.so"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"{compiler} has no lib{name}.so")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_sanitizers_find_nothing(lanes: int, tmp_path: Path) -> None:
    """No access out of bounds, no overflow, no undefined shift, at any vector width."""
    preload = " ".join(sanitizer(name) for name in ("asan", "ubsan"))
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -O1 -g"
    printed = again(
        "last_bit or diagonal_can_begin or written or any_strides or leading or threads "
        "or of_the_parts or stable_sort",
        tmp_path,
        f"{flags} -DDYNADIAG_LANES={lanes}",
        LD_PRELOAD=preload,
        # Python and torch never give back all they allocate, and torch catches its own exceptions.
        ASAN_OPTIONS="detect_leaks=0:alloc_dealloc_mismatch=0",
        UBSAN_OPTIONS="print_stacktrace=1",
        OMP_NUM_THREADS="2",
    )
    assert " passed" in printed
