"""The MLP-Mixer (arXiv 2105.01601)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from .blocks import DropPath, FeedForward, depths, patches


@final
@dataclass(frozen=True)
class MixerConfig:
    """Sizes of an MLP-Mixer; the defaults are those of Mixer-S/16, 18.5 M parameters.

    Attributes:
        image: height and width in pixels.
        patch: height and width of a patch in pixels.
        channels: colours.
        classes: number of outputs.
        width: channels C of a token.
        blocks: depth.
        hidden_tokens: width inside the MLP that mixes tokens.
        hidden_channels: width inside the MLP that mixes channels.
        drop_path: as in `ViTConfig`.
    """

    image: int = 224
    patch: int = 16
    channels: int = 3
    classes: int = 1000
    width: int = 512
    blocks: int = 8
    hidden_tokens: int = 256
    hidden_channels: int = 2048
    drop_path: float = 0.0


@final
class MixerBlock(nn.Module):
    """An MLP across the T tokens of a channel, then one across the C channels of a token."""

    def __init__(
        self, tokens: int, width: int, hidden_tokens: int, hidden_channels: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.tokens = FeedForward(tokens, hidden_tokens)
        self.norm2 = nn.LayerNorm(width)
        self.channels = FeedForward(width, hidden_channels)
        self.drop = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C) of (B, T, C)."""
        across = self.norm1(x).transpose(1, 2)  # (B, C, T)
        x = x + self.drop(self.tokens(across).transpose(1, 2))
        x = x + self.drop(self.channels(self.norm2(x)))
        return x


@final
class Mixer(nn.Module):
    """Patches through mixer blocks; `head` reads the mean of the tokens."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.embed = nn.Conv2d(config.channels, config.width, config.patch, config.patch)
        self.blocks = nn.ModuleList(
            MixerBlock(
                patches(config.image, config.patch),
                config.width,
                config.hidden_tokens,
                config.hidden_channels,
                drop_path,
            )
            for drop_path in depths(config.drop_path, config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, classes), of images (B, channels, image, image)."""
        x = self.embed(images).flatten(2).transpose(1, 2)  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits
