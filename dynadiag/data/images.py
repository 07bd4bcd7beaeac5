"""Images in memory, kept as bytes and standardised when they are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Generator, Tensor

from .split import Batch, Split

Augment = Callable[[Tensor, Generator], Tensor]


@final
class Images(Split):
    """Images and their classes.

    Args:
        pixels: (n, channels, height, width) uint8.
        labels: (n,) int64.
        mean: (channels,) float32, in the unit of the pixels.
        std: (channels,) float32, in the unit of the pixels.
        augment: what training does to a standardised float32 batch, if anything.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        *,
        mean: Tensor,
        std: Tensor,
        augment: Augment | None = None,
    ) -> None:
        self.pixels = pixels
        self.labels = labels
        self.mean = mean.view(-1, 1, 1)
        self.std = std.view(-1, 1, 1)
        self.augment = augment

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, indices: Tensor, generator: Generator | None = None) -> Batch:
        """Return images (B, channels, height, width) float32 and labels, as `Split.take`."""
        images = (self.pixels[indices] - self.mean) / self.std
        if self.augment is not None and generator is not None:
            images = self.augment(images, generator)
        return images, self.labels[indices]


def mean_and_std(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, exactly.

    Args:
        pixels: (n, channels, height, width) uint8.

    Returns:
        Two (channels,) float32 tensors.
    """
    values = torch.arange(256, dtype=torch.float64)
    # Counted by value: a float copy of CIFAR's pixels would take 600 MB.
    counts = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(1)]
    ).double()
    shares = counts / counts.sum(1, keepdim=True)  # (channels, 256)
    mean = shares @ values
    return mean.float(), (shares @ values.square() - mean.square()).sqrt().float()


def crop_and_flip(images: Tensor, generator: Generator, padding: int = 4) -> Tensor:
    """Shift each image by up to `padding` pixels, zeros moving in, and mirror every second one.

    Args:
        images: (B, channels, height, width).
        generator: what shifts and mirrorings are drawn with.
        padding: in pixels.
    """
    b, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, b, 1), generator=generator)
    mirror = torch.randint(2, (b, 1), generator=generator) == 1
    rows = torch.arange(height) + top  # (B, height)
    columns = torch.arange(width).expand(b, -1)
    columns = torch.where(mirror, columns.flip(1), columns) + left  # (B, width)
    each = torch.arange(b).view(-1, 1, 1)
    return padded[each, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2).contiguous()
