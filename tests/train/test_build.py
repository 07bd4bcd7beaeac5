from __future__ import annotations

import torch

from dynadiag.data.text import Tokens
from dynadiag.train import create
from dynadiag.train.build import build


def test_text_comes_in_windows_of_the_models_context() -> None:
    run = create("text-gpt", "dense", changes={"context": 32})
    train = build(run, None, torch.device("cpu")).dataset.train
    assert isinstance(train, Tokens)
    assert train.context == 32
