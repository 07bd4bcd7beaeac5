"""The vision transformer (arXiv 2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from .blocks import TransformerBlock, depths, patches


@final
@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer; the defaults are those of ViT-B/16, 86.6 M parameters.

    Attributes:
        image: height and width in pixels.
        patch: height and width of a patch in pixels.
        channels: colours.
        classes: number of outputs.
        width: channels C of a token.
        blocks: depth.
        heads: attention heads.
        hidden: width inside the MLP of a block.
        dropout: probability of dropping an element of a branch.
        drop_path: probability of dropping the branches of the last block whole; the others' grow
            linearly with depth. The paper trains the dense model with 0.1 and DynaDiag with 0.
    """

    image: int = 224
    patch: int = 16
    channels: int = 3
    classes: int = 1000
    width: int = 768
    blocks: int = 12
    heads: int = 12
    hidden: int = 3072
    dropout: float = 0.0
    drop_path: float = 0.0


@final
class ViT(nn.Module):
    """Patches and a class token through pre-norm blocks; `head` reads the class token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        tokens = patches(config.image, config.patch) + 1  # T
        self.embed = nn.Conv2d(config.channels, config.width, config.patch, config.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.position = nn.Parameter(torch.empty(1, tokens, config.width))
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                config.width,
                config.heads,
                config.hidden,
                dropout=config.dropout,
                drop_path=drop_path,
            )
            for drop_path in depths(config.drop_path, config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.classes)
        # As large as embedded patches: at 0.02 a tiny model hardly learns where a patch is.
        nn.init.normal_(self.class_token, std=0.5)
        nn.init.normal_(self.position, std=0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, classes), of images (B, channels, image, image)."""
        x = self.embed(images).flatten(2).transpose(1, 2)  # (B, T-1, C)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1)  # (B, T, C)
        x = self.drop(x + self.position)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits
