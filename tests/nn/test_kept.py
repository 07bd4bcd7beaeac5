from __future__ import annotations

import gc

import torch
from torch import Tensor, nn

from dynadiag.nn import kept as module
from dynadiag.nn.kept import kept


class Derivation:
    """Twice the values, and how often they were computed."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return self.values * 2


def test_computed_once_until_the_weights_change() -> None:
    weight = nn.Parameter(torch.ones(3))
    derive = Derivation(weight)
    for _ in range(2):
        assert kept("twice", weight, weight, 0, derive).tolist() == [2, 2, 2]
    assert derive.calls == 1
    with torch.no_grad():
        weight.mul_(5)
    assert kept("twice", weight, weight, 0, derive).tolist() == [10, 10, 10]
    assert derive.calls == 2


def test_a_new_pattern_or_dtype_is_another_derivation() -> None:
    weight = nn.Parameter(torch.ones(3))
    derive = Derivation(weight)
    first, second = object(), object()
    kept("twice", weight, weight, first, derive)
    kept("twice", weight, weight, second, derive)
    kept("twice", weight, weight.half(), second, derive)
    assert derive.calls == 3


def test_inference_tensors_have_no_version_and_are_not_kept() -> None:
    with torch.inference_mode():
        weight = torch.ones(3)
        derive = Derivation(weight)
        kept("twice", weight, weight, 0, derive)
        kept("twice", weight, weight, 0, derive)
    assert derive.calls == 2


def test_nothing_outlives_the_parameter() -> None:
    before = len(module._kept)
    weight = nn.Parameter(torch.ones(3))
    kept("twice", weight, weight, 0, lambda: torch.ones(3))
    assert len(module._kept) == before + 1
    del weight
    gc.collect()
    assert len(module._kept) == before
