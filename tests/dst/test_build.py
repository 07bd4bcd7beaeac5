from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dynadiag.dst.build import STARTS, first_diagonals, random_units


@given(st.integers(1, 40), st.data())
def test_random_units_are_as_many_as_asked(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, size))
    mask = random_units((size,), count, torch.Generator())
    assert mask.shape == (size,)
    assert int(mask.sum()) == count


@given(st.integers(1, 60), st.sampled_from(STARTS), st.integers(0, 100), st.data())
def test_first_diagonals_are_as_many_as_asked(
    size: int, start: str, seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, size))
    linear = nn.Linear(size, 1, device="meta")
    mask = first_diagonals(linear, count, start, torch.Generator().manual_seed(seed))
    assert mask.shape == (size,)
    assert int(mask.sum()) == count


@pytest.mark.parametrize("seed", range(5))
def test_strata_leave_no_wide_gap(seed: int) -> None:
    linear = nn.Linear(120, 7, device="meta")
    mask = first_diagonals(linear, 10, "stratified", torch.Generator().manual_seed(seed))
    offsets = mask.nonzero()[:, 0]
    gaps = torch.cat([offsets.diff(), offsets[:1] + 120 - offsets[-1:]])
    assert int(gaps.max()) < 24
    assert len(gaps.unique()) > 1
