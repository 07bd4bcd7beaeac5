"""What a model makes of a split, example by example."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiag.data import Split
from dynadiag.train.ranks import Ranks


@final
@dataclass(frozen=True)
class Examples:
    """What a model made of every example of a split, in order.

    Attributes:
        loss: (n,) float32, nats; of a text, the mean over the tokens of a window.
        correct: (n,) float32, 0 or 1; of a text, the share of the tokens of a window.
    """

    loss: NDArray[np.float32]
    correct: NDArray[np.float32]

    def means(self) -> dict[str, float]:
        """Return the mean `loss` and the `accuracy`."""
        return {
            "loss": float(self.loss.mean(dtype=np.float64)),
            "accuracy": float(self.correct.mean(dtype=np.float64)),
        }


@torch.no_grad()
def examine(
    model: nn.Module,
    split: Split,
    *,
    size: int,
    ranks: Ranks,
    cast: Callable[[], AbstractContextManager[object]],
) -> Examples:
    """Return what a model makes of a split; it comes back in training mode.

    Args:
        model: returns logits (B, ..., classes).
        split: of which each process takes its share.
        size: examples a forward.
        ranks: the processes.
        cast: returns the autocast context of a forward.
    """
    model.eval()
    mine = split.only(torch.arange(ranks.rank, len(split), ranks.count))
    parts = []
    for inputs, targets in mine.batches(size):
        with cast():
            logits = model(inputs.to(ranks.device))
        parts.append(judge(logits, targets.to(ranks.device)))
    model.train()
    loss, correct = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    total = len(split)
    return Examples(ranks.gather(loss, total).numpy(), ranks.gather(correct, total).numpy())


def judge(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and the share of right answers of every example, both (B,) float32."""
    flat = logits.float().flatten(0, -2)
    losses = F.cross_entropy(flat, targets.flatten(), reduction="none")
    right = (flat.argmax(1) == targets.flatten()).float()
    return losses.view(len(targets), -1).mean(1), right.view(len(targets), -1).mean(1)
