"""Every variant of every kernel against the reference in float64, where an index can go wrong.

All of it runs under the shim, on the CPU, but for the orders of threads; with `-m gpu` on a card.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as pairs

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dynadiag import geometry
from dynadiag.kernels.cuda.variants import ALL, Variant
from tests.kernels.cuda.conftest import Libraries, Machine
from tests.kernels.cuda.launches import Cut, direction_of, fits, multiply, product
from tests.kernels.cuda.problems import (
    assert_product,
    assert_rounded,
    draw,
    with_non_finite,
)
from tests.kernels.cuda.shim import (
    MAX_SHARED_BYTES,
    ORDERS,
    PLACEMENTS,
    Order,
    Placement,
    ShimLauncher,
)

SHAPES = [
    *((1, 1), (2, 2), (31, 31), (33, 33), (96, 96), (497, 497)),
    *((2, 1), (33, 32), (200, 96), (698, 1), (698, 497)),
    *((1, 2), (32, 33), (96, 200), (1, 698), (497, 698)),
]
BATCHES = [1, 3, 17, 197]
CUTS = [Cut(64, 1, 1), Cut(32, 3, 2), Cut(96, 2, 1), Cut(256, 1, 3), Cut(512, 1, 1)]
PRODUCTS = [variant for variant in ALL if variant.kernel not in ("reduce", "shared_rate")]
Case = tuple[int, int, int, int]


def name(variant: Variant) -> str:
    return variant.expression.replace("dynadiag::", "")


def diagonals(m: int, n: int) -> list[int]:
    """One, a few, enough for several groups and chunks with a rest, and all."""
    return sorted({min(k, max(m, n)) for k in (1, 5, 75, max(m, n))})


def all_cases() -> Iterator[Case]:
    for m, n in SHAPES:
        for k, batch in pairs(diagonals(m, n), BATCHES):
            yield m, n, k, batch


def some_cases(start: int) -> Iterator[Case]:
    """Every shape once; diagonals and batches change from shape to shape and with `start`."""
    for i, (m, n) in enumerate(SHAPES, start):
        counts = diagonals(m, n)
        k, batch = counts[i % len(counts)], BATCHES[i // 2 % len(BATCHES)]
        yield m, n, k, batch if k < 400 else min(batch, 17)


def check(machine: Machine, variant: Variant, case: Case, cut: Cut, turn: int = 0) -> None:
    """Compare the variant's product; `turn` chooses order and placement."""
    problem = draw(*case, variant.dtype)
    if not fits(variant, max(problem.m, problem.n), cut, MAX_SHARED_BYTES):
        return
    launcher = machine.make_launcher(ORDERS[turn % 3], PLACEMENTS[turn % 2])
    result = product(launcher, variant, cut, problem.to(machine.device))
    assert_product(result, problem, direction_of(variant, problem))


@pytest.mark.parametrize("variant", PRODUCTS, ids=name)
def test_every_shape(machine: Machine, variant: Variant) -> None:
    start = PRODUCTS.index(variant)
    for turn, case in enumerate(some_cases(start), start):
        check(machine, variant, case, CUTS[turn % len(CUTS)], turn)


@pytest.mark.slow
@pytest.mark.parametrize("variant", PRODUCTS, ids=name)
def test_every_shape_with_every_batch_and_cut(machine: Machine, variant: Variant) -> None:
    for turn, (case, cut) in enumerate(pairs(all_cases(), CUTS)):
        check(machine, variant, case, cut, turn)


@pytest.mark.parametrize("shape", [(3081, 3081), (3081, 497), (497, 3081)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_long_rows(machine: Machine, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    for turn, variant in enumerate(one for one in PRODUCTS if one.dtype == dtype):
        check(machine, variant, (*shape, 9, 17), Cut(256, 2), turn)


@pytest.mark.parametrize("shape", [(40, 40), (70, 40), (40, 70)], ids=str)
@pytest.mark.parametrize("variant", PRODUCTS, ids=name)
def test_every_place_a_diagonal_can_begin(
    machine: Machine, variant: Variant, shape: tuple[int, int]
) -> None:
    """All diagonals at once, so that each output reads each input: none twice, none of another."""
    for turn, (cut, batch) in enumerate(pairs(CUTS[:2], (3, 17))):
        check(machine, variant, (*shape, max(shape), batch), cut, turn)


@settings(max_examples=300, deadline=None)
@given(
    variant=st.sampled_from(PRODUCTS),
    m=st.integers(1, 130),
    n=st.integers(1, 130),
    share=st.floats(0, 1),
    batch=st.integers(1, 60),
    cut=st.builds(Cut, st.sampled_from((32, 64, 96)), st.integers(1, 3), st.integers(1, 4)),
    order=st.sampled_from(ORDERS),
    placement=st.sampled_from(PLACEMENTS),
)
def test_any_product_to_the_last_bit(
    libraries: Libraries,
    variant: Variant,
    m: int,
    n: int,
    share: float,
    batch: int,
    cut: Cut,
    order: Order,
    placement: Placement,
) -> None:
    """Integers of at most 1, at most 131 of them: every sum is exact in 8 bits."""
    k = max(1, round(share * max(m, n)))
    problem = draw(m, n, k, batch, variant.dtype).map(lambda t: t.round().clamp(-1, 1))
    result = product(ShimLauncher(libraries, order, placement), variant, cut, problem)
    assert torch.equal(result.double(), problem.exact[direction_of(variant, problem)])


@pytest.mark.parametrize("variant", PRODUCTS, ids=name)
def test_no_order_of_threads_changes_a_bit(libraries: Libraries, variant: Variant) -> None:
    """So no barrier is missing, and the result is deterministic."""
    for shape, cut in pairs([(97, 97), (96, 200), (200, 97)], [Cut(64, 1, 2), Cut(96, 2, 1)]):
        problem = draw(*shape, 40, 59, variant.dtype)
        first, *others = [
            product(ShimLauncher(libraries, order, placement), variant, cut, problem)
            for order, placement in pairs(ORDERS, PLACEMENTS)
        ]
        assert bool(first.isfinite().all())
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("shape", [(97, 97), (40, 97), (97, 40)], ids=str)
@pytest.mark.parametrize("variant", PRODUCTS, ids=name)
def test_nan_and_infinity_reach_exactly_the_outputs_they_should(
    machine: Machine, variant: Variant, shape: tuple[int, int]
) -> None:
    launcher = machine.make_launcher("forward", "end")
    for k, batch, cut in ((5, 3, Cut(64)), (60, 17, Cut(32, 2, 3))):
        problem = with_non_finite(draw(*shape, k, batch, variant.dtype))
        result = product(launcher, variant, cut, problem.to(machine.device)).cpu()
        exact = problem.exact[direction_of(variant, problem)]
        assert torch.equal(result.isfinite(), exact.isfinite())
        assert bool(exact.isfinite().any())
        assert bool((~exact.isfinite()).any())


@pytest.mark.parametrize("k", [5, 97])
@pytest.mark.parametrize("variant", PRODUCTS, ids=name)
def test_nan_among_the_values_reaches_its_own_outputs(
    machine: Machine, variant: Variant, k: int
) -> None:
    if variant.kernel.endswith("grad_values"):
        return  # does not read them
    problem = draw(97, 49, k, 3, variant.dtype).copy()
    problem.values[3, 20] = float("nan")
    row, column = (int(cell[3, 20]) for cell in geometry.cells(problem.offsets, 97, 49))
    launcher = machine.make_launcher("forward", "end")
    result = product(launcher, variant, Cut(64), problem.to(machine.device)).cpu()
    own = row if variant.scatter else column
    assert result.isnan().any(0).nonzero().tolist() == [[own]]
    assert bool(result.isnan()[:, own].all())


def shifted(tensor: Tensor) -> Tensor:
    """Return a copy of which the first element is only aligned to the size of an element."""
    room = tensor.new_empty(tensor.numel() + 1)
    room[1:] = tensor.flatten()
    return room[1:].view(tensor.shape)


@pytest.mark.parametrize("shape", [(96, 64), (64, 96), (97, 63)], ids=str)
@pytest.mark.parametrize("variant", PRODUCTS, ids=name)
def test_operands_of_any_alignment(
    machine: Machine, variant: Variant, shape: tuple[int, int]
) -> None:
    launcher = machine.make_launcher("forward", "begin")
    problem = draw(*shape, 33, 17, variant.dtype)
    moved = problem.to(machine.device).map(shifted)
    assert_product(
        product(launcher, variant, Cut(64, 1, 2), moved), problem, direction_of(variant, problem)
    )


FORWARDS = [one for one in PRODUCTS if one.kernel.endswith("multiply")]
ACTIVATIONS = [lambda y: y, F.relu, F.gelu, F.silu]  # by their code in epilogue.cuh


@pytest.mark.parametrize("slices", [1, 3])
@pytest.mark.parametrize("code", range(4), ids=["none", "relu", "gelu", "silu"])
@pytest.mark.parametrize("variant", FORWARDS, ids=name)
def test_bias_and_activation(machine: Machine, variant: Variant, code: int, slices: int) -> None:
    m, n = (65, 33) if variant.scatter else (33, 65)
    problem = draw(m, n, 20, 17, variant.dtype)
    moved, launcher = problem.to(machine.device), machine.make_launcher("forward", "end")
    biased = multiply(launcher, variant, Cut(64, 1, slices), moved.x, moved, moved.bias, code)
    plain = multiply(launcher, variant, Cut(64, 1, slices), moved.x, moved, None, code)
    exact, magnitude = problem.exact["forward"], problem.magnitudes["forward"] + 1
    for result, sums in ((biased, exact), (plain, exact - problem.bias.double())):
        # Slopes reach 1.13, and the function itself is off by a few places: one more term for each.
        assert_rounded(
            result, ACTIVATIONS[code](sums), 1.13 * magnitude, problem.terms("forward") + 4
        )
