from __future__ import annotations

import torch
from torch import nn

from dynadiag.dst.build import STARTS, first_diagonals
from dynadiag.dst.methods import Static
from dynadiag.nn import DiagonalLinear

from .toy import TOTAL


def test_diagonals_are_those_drawn() -> None:
    linear = nn.Linear(16, 32)
    for start in STARTS:
        method = Static(start=start)
        layer = method.build(linear, 5, torch.Generator().manual_seed(3))
        drawn = first_diagonals(linear, 5, start, torch.Generator().manual_seed(3))
        assert type(layer) is DiagonalLinear
        assert layer.offsets.tolist() == drawn.nonzero()[:, 0].tolist()
        assert not any(method.updates(step, TOTAL) for step in range(TOTAL))
