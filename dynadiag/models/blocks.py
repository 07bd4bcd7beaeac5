"""What ViT, MLP-Mixer and GPT share: attention, the two-layer MLP, stochastic depth."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values.

    Args:
        width: channels C.
        heads: number of heads H; divides C.
        causal: whether a position sees only itself and those before it.
        dropout: probability of dropping an attention weight while training.
    """

    def __init__(
        self, width: int, heads: int, *, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of {heads} heads; change one of them")
        self.heads = heads
        self.causal = causal
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C) of (B, T, C)."""
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=self.causal
        )  # (B, H, T, C/H)
        mixed: Tensor = self.proj(y.transpose(1, 2).reshape(b, t, c))
        return mixed


@final
class FeedForward(nn.Module):
    """Two linear layers with a GELU between: (..., width) -> (..., hidden) -> (..., width)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., width) of (..., width)."""
        y: Tensor = self.down(F.gelu(self.up(x)))
        return y


@final
class DropPath(nn.Module):
    """Stochastic depth: while training, a residual branch of an example is dropped whole.

    The branches kept are scaled by 1 / (1 - probability), so the expected output is the branch.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Return (B, ...) of (B, ...)."""
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        shape = (len(branch),) + (1,) * (branch.dim() - 1)
        return branch * torch.empty(shape, device=branch.device).bernoulli_(keep).div_(keep)


@final
class TransformerBlock(nn.Module):
    """Attention and an MLP, each behind a layer norm and added to the stream (pre-norm).

    Args:
        width: channels C.
        heads: number of attention heads.
        hidden: width inside the MLP.
        causal: whether a position sees only itself and those before it.
        dropout: probability of dropping an element of a branch or an attention weight.
        drop_path: probability of dropping a branch whole.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        causal: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, hidden)
        self.drop = nn.Sequential(nn.Dropout(dropout), DropPath(drop_path))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C) of (B, T, C)."""
        x = x + self.drop(self.attention(self.norm1(x)))
        x = x + self.drop(self.mlp(self.norm2(x)))
        return x


def patches(image: int, patch: int) -> int:
    """Return how many square patches cover a square image.

    Args:
        image: height and width in pixels.
        patch: height and width of a patch in pixels.

    Raises:
        ValueError: patches do not tile the image.
    """
    if image % patch:
        raise ValueError(f"patches of {patch} pixels do not tile an image of {image}; change one")
    return (image // patch) ** 2


def depths(rate: float, blocks: int) -> list[float]:
    """Return the drop-path probability of each block: from 0 in the first to rate in the last."""
    return [rate * block / max(blocks - 1, 1) for block in range(blocks)]
