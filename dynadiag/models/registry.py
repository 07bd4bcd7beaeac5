"""The models there are, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from .gpt import GPT, GPTConfig
from .mixer import Mixer, MixerConfig
from .mlp import MLP, MLPConfig
from .vit import ViT, ViTConfig

Config = MLPConfig | ViTConfig | MixerConfig | GPTConfig

_ARCHITECTURES: dict[type[Config], Callable[[Any], nn.Module]] = {
    MLPConfig: MLP,
    ViTConfig: ViT,
    MixerConfig: Mixer,
    GPTConfig: GPT,
}

_CONFIGS: dict[str, Config] = {
    # Sizes of arXiv 2506.11449, appendix C; millions of parameters: 86.6, 18.5, 124.4, 6.3, 1.2.
    "vit_b16": ViTConfig(drop_path=0.1),
    "mixer_s16": MixerConfig(drop_path=0.1),
    "gpt2_small": GPTConfig(dropout=0.1),
    "vit_cifar": ViTConfig(image=32, patch=4, classes=10, width=384, blocks=7, hidden=384),
    "mixer_cifar": MixerConfig(
        image=32, patch=4, classes=10, width=128, hidden_tokens=64, hidden_channels=512
    ),
    # The MLP of the method's published code.
    "mlp_mnist": MLPConfig(inputs=784),
    # One training takes seconds on one core.
    "mlp_digits": MLPConfig(),
    "vit_digits": ViTConfig(
        image=8, patch=4, channels=1, classes=10, width=96, blocks=2, heads=4, hidden=192
    ),
    "mixer_digits": MixerConfig(
        image=8,
        patch=2,
        channels=1,
        classes=10,
        width=64,
        blocks=2,
        hidden_tokens=64,
        hidden_channels=128,
    ),
    "gpt_text": GPTConfig(vocabulary=256, context=64, width=128, blocks=2, heads=4, hidden=256),
}


def names() -> dict[str, Config]:
    """Return the configuration of every model by its name."""
    return dict(_CONFIGS)


def create(name: str, **changes: Any) -> nn.Module:
    """Build a model with fresh weights, drawn with torch's global generator.

    Args:
        name: one of `names()`.
        changes: fields of its configuration to replace, such as `classes=100`.

    Raises:
        ValueError: the name or a field is unknown; the message lists the known ones.
    """
    if name not in _CONFIGS:
        raise ValueError(f"unknown model '{name}'; known are {', '.join(_CONFIGS)}")
    config = _CONFIGS[name]
    fields = [field.name for field in dataclasses.fields(config)]
    for change in changes:
        if change not in fields:
            raise ValueError(f"model '{name}' has no '{change}'; it has {', '.join(fields)}")
    return _ARCHITECTURES[type(config)](dataclasses.replace(config, **changes))
