"""What a model makes of a split, example by example."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from dynadiag import data
from dynadiag.data import Split
from dynadiag.train.evaluate import examine, judge
from dynadiag.train.ranks import Ranks

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Split:
    return data.load("digits").test


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))


def test_class_is_right_or_wrong() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    loss, correct = judge(logits, torch.tensor([1, 0]))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(2)), math.log(2)])
    assert correct.tolist() == [0, 1]


def test_text_is_right_in_part() -> None:
    logits = torch.tensor([[[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
    loss, correct = judge(logits, torch.tensor([[0, 0, 1, 1]]))
    assert loss.shape == (1,)
    assert correct.tolist() == [0.75]


def test_batches_make_no_difference(model: nn.Module, digits: Split) -> None:
    alone = Ranks(CPU)
    whole = examine(model, digits, size=1000, ranks=alone, cast=nullcontext)
    pieces = examine(model, digits, size=7, ranks=alone, cast=nullcontext)
    assert len(whole.loss) == len(digits)
    np.testing.assert_allclose(pieces.loss, whole.loss, rtol=1e-5)
    assert whole.means()["accuracy"] == pytest.approx(whole.correct.mean())


def test_model_goes_on_in_training_mode(model: nn.Module, digits: Split) -> None:
    twice = [examine(model, digits, size=99, ranks=Ranks(CPU), cast=nullcontext) for _ in range(2)]
    assert np.array_equal(twice[0].loss, twice[1].loss)
    assert model.training
