from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from dynadiag.data.split import Batch, Split


class Numbers(Split):
    """Example i is the number i, to which augmentation adds a random fraction."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def take(self, indices: Tensor, generator: Generator | None = None) -> Batch:
        inputs = indices.float()
        if generator is not None:
            inputs = inputs + torch.rand(len(indices), generator=generator)
        return inputs, indices


def targets(split: Split, steps: range, seed: int = 0, size: int = 4) -> list[int]:
    return [t for step in steps for t in split.batch(step, seed=seed, size=size)[1].tolist()]


def test_every_epoch_is_all_examples_in_an_order_of_its_own() -> None:
    seen = targets(Numbers(10), range(5))
    first, second = seen[:10], seen[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_batch_may_hold_several_epochs() -> None:
    seen = targets(Numbers(3), range(2), size=9)
    assert [sorted(seen[i : i + 3]) for i in range(0, 18, 3)] == [[0, 1, 2]] * 6


def test_batches_depend_on_seed_and_step_alone() -> None:
    split = Numbers(10)
    inputs = [split.batch(step, seed=1, size=4)[0] for step in range(6)]
    torch.rand(1)
    for step in (5, 0, 3):
        assert torch.equal(Numbers(10).batch(step, seed=1, size=4)[0], inputs[step])
    assert targets(split, range(6), seed=1) != targets(split, range(6), seed=2)


def test_augmentation_differs_between_steps_and_ranks() -> None:
    split = Numbers(1)
    drawn = {split.batch(step, seed=0, size=1)[0].item() for step in range(4)}
    drawn |= {split.batch(0, seed=0, size=2, rank=rank, ranks=2)[0].item() for rank in range(2)}
    assert len(drawn) == 5  # rank 0 of two draws what the only rank draws


def test_ranks_share_a_batch() -> None:
    split = Numbers(10)
    parts = [split.indices(7, seed=0, size=6, rank=rank, ranks=3) for rank in range(3)]
    assert torch.equal(torch.stack(parts, 1).flatten(), split.indices(7, seed=0, size=6))


def test_evaluation_sees_each_example_once_in_order_as_it_is() -> None:
    batches = list(Numbers(5).batches(2))
    assert [len(x) for x, _ in batches] == [2, 2, 1]
    assert torch.cat([x for x, _ in batches]).tolist() == [0, 1, 2, 3, 4]


def test_a_subset_of_a_subset() -> None:
    part = Numbers(10).only(torch.tensor([2, 3, 5, 7])).only(torch.tensor([1, 3]))
    assert len(part) == 2
    assert part.take(torch.tensor([1, 0]))[1].tolist() == [7, 3]


def test_held_out_examples_are_always_the_same_and_never_trained_on() -> None:
    rest, held = Numbers(10).hold_out(3)
    assert (len(rest), len(held)) == (7, 3)
    every = [target for split in (rest, held) for _, y in split.batches(99) for target in y]
    assert sorted(int(target) for target in every) == list(range(10))
    assert torch.equal(Numbers(10).hold_out(3)[1].chosen, held.chosen)


def test_impossible_batches() -> None:
    with pytest.raises(ValueError, match="a batch of 5 is no positive multiple of 2 ranks"):
        Numbers(10).indices(0, seed=0, size=5, ranks=2)
    with pytest.raises(ValueError, match="a batch of 0"):
        Numbers(10).indices(0, seed=0, size=0)
    with pytest.raises(ValueError, match="holds no example"):
        Numbers(0).indices(0, seed=0, size=5)
    with pytest.raises(ValueError, match="cannot hold out 10 of 10"):
        Numbers(10).hold_out(10)
