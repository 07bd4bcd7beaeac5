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


@pytest.mark.parametrize("seed", range(5))
def test_layers_too_sparse_to_reach_all_features_reach_the_same_ones(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    up = first_diagonals(nn.Linear(16, 64, device="meta"), 2, "aligned", draw)
    down = first_diagonals(nn.Linear(64, 16, device="meta"), 2, "aligned", draw)
    shared = reached(up, 16) & reached(down, 16)
    assert int(shared.sum()) >= 2 * 16 * 3 // 4


def reached(mask: torch.Tensor, length: int) -> torch.Tensor:
    """Return the features of the longer side that the diagonals of a mask (P,) reach."""
    features = torch.zeros_like(mask)
    for offset in mask.nonzero()[:, 0].tolist():
        features[torch.arange(offset, offset + length) % len(mask)] = True
    return features


@pytest.mark.parametrize("count", [4, 9])
def test_where_all_features_are_reached_aligned_diagonals_are_stratified(count: int) -> None:
    linear = nn.Linear(16, 64, device="meta")
    for seed in range(5):
        masks = [
            first_diagonals(linear, count, start, torch.Generator().manual_seed(seed))
            for start in ("aligned", "stratified")
        ]
        assert torch.equal(*masks)
