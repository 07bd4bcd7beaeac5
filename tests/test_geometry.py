from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from dynadiag import geometry

SIZES = st.integers(1, 40)
SPARSITIES = st.floats(0, 1, exclude_max=True)


@given(SIZES, SIZES)
@example(1, 1)
@example(1, 40)
@example(40, 1)
def test_the_diagonals_partition_the_matrix(m: int, n: int) -> None:
    rows, columns = geometry.cells(torch.arange(geometry.num_candidates(m, n)), m, n)
    assert sorted((rows * n + columns).flatten().tolist()) == list(range(m * n))


@given(SIZES, SIZES, st.data())
def test_cells_stand_where_the_convention_says(m: int, n: int, data: st.DataObject) -> None:
    s = data.draw(st.integers(0, max(m, n) - 1))
    if m >= n:
        expected = [((c + s) % m, c) for c in range(n)]
    else:
        expected = [(r, (r + s) % n) for r in range(m)]
    rows, columns = geometry.cells(torch.tensor([s], dtype=torch.int32), m, n)
    assert list(zip(rows[0].tolist(), columns[0].tolist(), strict=True)) == expected


def test_cells_keep_the_order_of_the_offsets() -> None:
    rows, columns = geometry.cells(torch.tensor([3, 0]), 2, 4)
    assert rows.tolist() == [[0, 1], [0, 1]]
    assert columns.tolist() == [[3, 0], [0, 1]]
    assert rows.dtype == columns.dtype == torch.int64


@given(SIZES, SIZES)
def test_transposing_keeps_offsets_and_values(m: int, n: int) -> None:
    every = torch.arange(max(m, n))
    rows, columns = geometry.cells(every, m, n)
    t_rows, t_columns = geometry.cells(every, n, m)
    if m == n:  # both are read by columns: diagonal s becomes -s, its values turned by s
        t_rows, t_columns = t_rows[-every], t_columns[-every]
        turn = (torch.arange(m) + every.unsqueeze(1)) % m
        t_rows, t_columns = t_rows.gather(1, turn), t_columns.gather(1, turn)
    assert torch.equal(t_rows, columns)
    assert torch.equal(t_columns, rows)


@given(SIZES, SIZES, SPARSITIES)
def test_number_of_diagonals_is_the_nearest_and_at_least_one(m: int, n: int, s: float) -> None:
    k = geometry.num_diagonals(m, n, s)
    wanted = (1 - s) * max(m, n)
    assert 1 <= k <= max(m, n)
    assert abs(k - wanted) <= 0.5 or (k == 1 and wanted < 0.5)


@pytest.mark.parametrize(
    ("m", "n", "sparsity", "k"),
    [
        (768, 768, 0.9, 77),
        (3072, 768, 0.95, 154),
        (768, 3072, 0.99, 31),
        (10, 10, 0.0, 10),
        (10, 4, 0.999, 1),
        (1, 1, 0.5, 1),
    ],
)
def test_sparsity_becomes_diagonals(m: int, n: int, sparsity: float, k: int) -> None:
    assert geometry.num_diagonals(m, n, sparsity) == k


@given(SIZES, SIZES, SPARSITIES)
def test_achieved_sparsity_is_the_share_of_zeros(m: int, n: int, s: float) -> None:
    k = geometry.num_diagonals(m, n, s)
    zeros = m * n - k * geometry.diagonal_length(m, n)
    assert geometry.achieved_sparsity(m, n, k) == pytest.approx(zeros / (m * n))


@pytest.mark.parametrize("given_as", [list, tuple, torch.tensor], ids=["list", "tuple", "tensor"])
def test_offsets_become_int32_in_the_order_given(
    given_as: Callable[[list[int]], torch.Tensor],
) -> None:
    offsets = geometry.as_offsets(given_as([5, 0, 3]), 6, 2)
    assert offsets.dtype == torch.int32
    assert offsets.tolist() == [5, 0, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.num_candidates(0, 4), r"out_features is 0.*at least 1"),
        (lambda: geometry.diagonal_length(4, -2), r"in_features is -2.*at least 1"),
        (lambda: geometry.num_diagonals(4, 0, 0.5), r"in_features is 0"),
        (lambda: geometry.num_diagonals(4, 4, 1.0), r"sparsity is 1\.0.*\[0, 1\).*such as 0\.9"),
        (lambda: geometry.num_diagonals(4, 4, -0.1), r"sparsity is -0\.1.*\[0, 1\)"),
        (lambda: geometry.num_diagonals(4, 4, float("nan")), r"sparsity is nan"),
        (lambda: geometry.achieved_sparsity(0, 0, 1), r"in_features is 0"),
        (lambda: geometry.check_num_diagonals(4, 8, 9), r"num_diagonals is 9.*8 diag.*pass 1 to 8"),
        (lambda: geometry.check_num_diagonals(4, 8, 0), r"num_diagonals is 0.*pass 1 to 8"),
        (lambda: geometry.as_offsets([1, 4, 1], 4, 8), r"offset 1 is given twice.*once"),
        (lambda: geometry.as_offsets([0, -1], 4, 8), r"offset -1 is outside \[0, 8\).*modulo 8"),
        (lambda: geometry.as_offsets([8], 4, 8), r"offset 8 is outside \[0, 8\).*modulo 8"),
        (lambda: geometry.as_offsets([2**32], 4, 8), r"offset 4294967296 is outside \[0, 8\)"),
        (lambda: geometry.as_offsets(range(9), 4, 8), r"num_diagonals is 9.*pass 1 to 8"),
        (lambda: geometry.as_offsets(torch.zeros(1, 1).int(), 4, 8), r"shape \(1, 1\).*one list"),
        (lambda: geometry.as_offsets(torch.tensor(3), 4, 8), r"shape \(\).*one list"),
    ],
)
def test_bad_numbers_name_value_limit_and_remedy(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.bool], ids=str)
def test_offsets_are_integers(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"offsets are {dtype}.*pass integers"):
        geometry.as_offsets(torch.ones(1, dtype=dtype), 4, 8)


def test_float_offsets_in_a_list_are_refused() -> None:
    with pytest.raises(TypeError, match="pass integers"):
        geometry.as_offsets([1.0, 2.0], 4, 8)  # type: ignore[list-item]
