from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dynadiag.nn.selection import largest, largest_of_each


def test_among_equals_the_first_win() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0], [2.0, 0.0, 3.0]])
    assert largest(scores, 3).tolist() == [[False, True, True], [False, False, True]]
    assert largest_of_each(scores, 1).tolist() == [[1], [2]]
    assert largest_of_each(torch.ones(2, 5), 2).tolist() == [[0, 1], [0, 1]]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_largest_agrees_with_a_stable_sort(scores: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    ranked = sorted(range(len(scores)), key=lambda place: -scores[place])[:count]
    kept = largest(torch.tensor(scores, dtype=torch.float32), count)
    assert kept.nonzero().flatten().tolist() == sorted(ranked)
