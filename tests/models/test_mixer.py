from __future__ import annotations

import torch

from dynadiag.models import Mixer, MixerConfig
from dynadiag.models.mixer import MixerBlock


def test_a_block_mixes_tokens_within_channels_and_channels_within_tokens() -> None:
    torch.manual_seed(0)
    block = MixerBlock(4, 6, 8, 8, drop_path=0.0)
    x = torch.randn(1, 4, 6, requires_grad=True)
    (grad,) = torch.autograd.grad(block(x)[0, 0, 0], x)
    assert (grad != 0).all()


def test_examples_do_not_meet() -> None:
    torch.manual_seed(0)
    model = Mixer(MixerConfig(8, 4, 1, 3, 8, 2, hidden_tokens=4, hidden_channels=16))
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(model(images)[1:], model(images[1:]))
