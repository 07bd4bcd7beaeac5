from __future__ import annotations

import copy

import pytest
import torch

from dynadiag.models import GPT, GPTConfig

SMALL = GPTConfig(vocabulary=11, context=6, width=8, blocks=2, heads=2, hidden=16)


def test_no_token_sees_a_later_one() -> None:
    torch.manual_seed(0)
    model = GPT(SMALL)
    tokens = torch.randint(11, (2, 6))
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


def test_positions_matter() -> None:
    torch.manual_seed(0)
    logits = GPT(SMALL)(torch.full((1, 6), 3))
    assert not torch.allclose(logits[0, 0], logits[0, 5])


def test_the_head_is_the_embedding() -> None:
    model = copy.deepcopy(GPT(SMALL))
    assert model.head.weight is model.token.weight


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocabulary=11, context=6, width=8, blocks=1, heads=2, dropout=0.5))
    tokens = torch.randint(11, (2, 6))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_too_long_a_sequence() -> None:
    with pytest.raises(ValueError, match="7 tokens, but the context holds 6"):
        GPT(SMALL)(torch.zeros(1, 7, dtype=torch.long))
