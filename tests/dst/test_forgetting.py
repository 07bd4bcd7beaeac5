from __future__ import annotations

import pytest
import torch

from dynadiag.dst.forgetting import Forgetting


def counted(*epochs: list[int]) -> Forgetting:
    """What is known after epochs of right (1) and wrong (0) answers to every example."""
    forgetting = Forgetting(len(epochs[0]))
    for answers in epochs:
        forgetting.record(torch.arange(len(answers)), torch.tensor(answers).bool())
    return forgetting


def test_only_right_to_wrong_is_forgetting() -> None:
    forgetting = counted([0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 1, 1])
    assert forgetting.events.tolist() == [0, 2, 0, 1]


def test_what_was_never_right_counts_most() -> None:
    assert counted([0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]).events.tolist() == [3, 2, 1]
    assert counted([0, 1]).events.tolist() == [1, 0]


def test_examples_may_come_in_parts_and_any_order() -> None:
    forgetting = Forgetting(4)
    forgetting.record(torch.tensor([3, 1]), torch.tensor([True, True]))
    forgetting.record(torch.tensor([1, 0]), torch.tensor([False, True]))
    assert forgetting.events.tolist() == [0, 1, 2, 0]


def test_the_least_forgotten_go_first_and_among_equals_the_first() -> None:
    forgetting = counted([1, 1, 1, 1, 0], [1, 0, 1, 1, 0])
    assert forgetting.keep(0.0).tolist() == [0, 1, 2, 3, 4]
    assert forgetting.keep(0.4).tolist() == [1, 3, 4]
    assert forgetting.keep(0.79).tolist() == [1, 4]
    assert forgetting.keep(0.8).tolist() == [4]


def test_counting_goes_on_from_a_checkpoint() -> None:
    first, straight = counted([1, 1], [0, 1]), counted([1, 1], [0, 1], [1, 0], [0, 0])
    resumed = Forgetting(2)
    resumed.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    for answers in ([1, 0], [0, 0]):
        resumed.record(torch.arange(2), torch.tensor(answers).bool())
    assert resumed.events.tolist() == straight.events.tolist() == [2, 1]


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="examples is 0, but a training set has at least 1"):
        Forgetting(0)
    with pytest.raises(ValueError, match=r"removed is 1.0, but must be a share in \[0, 1\)"):
        Forgetting(3).keep(1.0)
    with pytest.raises(ValueError, match="the counts are of 2 examples, but this training set"):
        Forgetting(3).load_state_dict(Forgetting(2).state_dict())
