from __future__ import annotations

import torch

from dynadiag.models import ViT, ViTConfig


def test_the_order_of_patches_matters() -> None:
    torch.manual_seed(0)
    model = ViT(ViTConfig(image=4, patch=2, channels=1, classes=3, width=8, blocks=1, heads=2))
    images = torch.randn(2, 1, 4, 4)
    assert not torch.allclose(model(images), model(images.flip(2)), atol=1e-4)


def test_examples_do_not_meet() -> None:
    torch.manual_seed(0)
    model = ViT(ViTConfig(image=4, patch=2, channels=1, classes=3, width=8, blocks=1, heads=2))
    images = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(model(images)[1:], model(images[1:]))
