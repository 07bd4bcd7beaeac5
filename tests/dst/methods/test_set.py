from __future__ import annotations

import torch

from dynadiag.dst.methods import SET
from dynadiag.dst.methods.set import rank_within_sign

from .toy import build, train


def test_ranks_are_shares_of_the_weights_of_a_sign() -> None:
    values = torch.tensor([[5.0, -1.0, 0.0], [2.0, -3.0, 7.0]])
    active = torch.tensor([[True, True, True], [True, True, False]])
    ranks = rank_within_sign(values, active)
    torch.testing.assert_close(ranks, torch.tensor([[1.0, 0.5, 1 / 3], [2 / 3, 1.0, 0.0]]))


def test_weights_of_one_sign_are_ranked_too() -> None:
    active = torch.ones(1, 2, dtype=torch.bool)
    assert rank_within_sign(torch.tensor([[2.0, 1.0]]), active).tolist() == [[1.0, 0.5]]
    assert rank_within_sign(torch.tensor([[-2.0, -1.0]]), active).tolist() == [[1.0, 0.5]]


def test_the_smallest_of_both_signs_leave_in_the_same_share() -> None:
    method = SET()
    layer = build(method, kept=200)
    with torch.no_grad():  # a fifth of the weights are negative, and all of them small
        layer.values.abs_()
        layer.values[layer.values < layer.values[layer.values > 0].quantile(0.2)] *= -1
    updates = 0
    for done in train(method, layer):
        updates += 1
        for side in (done.values >= 0, done.values < 0):
            mine = done.before & side
            dropped = done.dropped & side
            assert abs(int(dropped.sum()) - 0.3 * int(mine.sum())) <= 1
            assert done.strength[dropped].max() <= done.strength[mine & ~dropped].min()
    assert updates == 18


def test_as_many_random_entries_are_grown_every_time() -> None:
    method = SET(drop=0.25)
    layer = build(method, kept=100)
    for done in train(method, layer):
        assert int(done.grown.sum()) == int(done.dropped.sum()) == 25
        assert not bool((done.grown & done.before).any())


def test_a_nearly_full_layer_exchanges_what_is_free() -> None:
    method = SET()
    layer = build(method, kept=508)
    for done in train(method, layer):
        assert int(done.grown.sum()) == 4
        assert layer.kept == 508
