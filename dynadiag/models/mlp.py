"""A multilayer perceptron."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F


@final
@dataclass(frozen=True)
class MLPConfig:
    """Sizes of an MLP; the defaults fit the 8 x 8 digits.

    Attributes:
        inputs: number of features, such as pixels.
        hidden: widths of the hidden layers.
        classes: number of outputs.
    """

    inputs: int = 64
    hidden: tuple[int, ...] = (256, 256)
    classes: int = 10


@final
class MLP(nn.Module):
    """Linear layers with ReLU between; the last one is `head`."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        widths = (config.inputs, *config.hidden)
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], config.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (B, classes), of x (B, ...) with `inputs` numbers an example."""
        x = x.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        logits: Tensor = self.head(x)
        return logits
