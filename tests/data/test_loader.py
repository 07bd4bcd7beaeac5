from __future__ import annotations

import pytest
import torch

from dynadiag.data import loader
from dynadiag.data.text import Tokens

SPLIT = Tokens(torch.arange(100, dtype=torch.uint8), 3)


@pytest.mark.parametrize("workers", [0, 1])  # torch warns of more than there are cores
def test_it_yields_the_batches_of_the_steps(workers: int) -> None:
    batches = list(loader(SPLIT, range(4, 7), seed=1, size=4, workers=workers))
    assert len(batches) == 3
    for step, batch in zip(range(4, 7), batches, strict=True):
        expected = SPLIT.batch(step, seed=1, size=4)
        assert torch.equal(batch[0], expected[0])
        assert torch.equal(batch[1], expected[1])


def test_it_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    list(loader(SPLIT, range(2), seed=1, size=4))
    assert torch.equal(torch.get_rng_state(), before)
