"""Small readable models by name: one architecture a file, the paper's sizes and tiny ones."""

from __future__ import annotations

from .gpt import GPT, GPTConfig
from .mixer import Mixer, MixerConfig
from .mlp import MLP, MLPConfig
from .registry import create, names
from .vit import ViT, ViTConfig

__all__ = [
    "GPT",
    "MLP",
    "GPTConfig",
    "MLPConfig",
    "Mixer",
    "MixerConfig",
    "ViT",
    "ViTConfig",
    "create",
    "names",
]
