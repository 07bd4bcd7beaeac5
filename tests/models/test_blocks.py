from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dynadiag.models import blocks


def test_attention_is_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    attention = blocks.Attention(8, 2)
    x = torch.randn(3, 5, 8)
    q, k, v = (part.view(3, 5, 2, 4).transpose(1, 2) for part in attention.qkv(x).chunk(3, -1))
    weights = F.softmax(q @ k.transpose(-1, -2) / 2, -1)
    expected = attention.proj((weights @ v).transpose(1, 2).reshape(3, 5, 8))
    torch.testing.assert_close(attention(x), expected)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 10 is no multiple of 4 heads"):
        blocks.Attention(10, 4)


def test_drop_path_drops_whole_branches_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    drop = blocks.DropPath(0.25)
    y = drop(torch.ones(4000, 2, 3))
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(y.amin((1, 2)), y.amax((1, 2)))
    assert y.mean().item() == pytest.approx(1, abs=0.05)


def test_drop_path_is_idle_in_evaluation() -> None:
    branch = torch.randn(4, 3)
    assert blocks.DropPath(0.5).eval()(branch) is branch


def test_drop_path_grows_with_depth() -> None:
    assert blocks.depths(0.2, 3) == [0, 0.1, 0.2]
    assert blocks.depths(0.2, 1) == [0]


def test_patches_must_tile_the_image() -> None:
    assert blocks.patches(32, 4) == 64
    with pytest.raises(ValueError, match="patches of 3 pixels do not tile an image of 8"):
        blocks.patches(8, 3)
