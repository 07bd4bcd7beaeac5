"""What is trained by name: a model, its data, and the recipe both are trained with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, get_args

Precision = Literal["float32", "bfloat16", "float16"]
Option = bool | int | float | str | None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained, whatever the method.

    Attributes:
        steps: optimizer steps.
        batch: examples an optimizer step sees, over all processes and micro-batches.
        lr: learning rate after the warm-up, from where it falls along half a cosine.
        weight_decay: AdamW's; of weights only, never of biases, norms and alpha.
        final_lr: learning rate of the last step.
        warmup: steps over which the learning rate rises in a line.
        beta2: AdamW's second decay; the first is 0.9.
        clip: largest norm of the gradient; None leaves it as it is.
        smoothing: of the labels.
        accumulate: micro-batches a step is split into.
        precision: of the forward pass, by autocast.
        evaluate: steps between two looks at the validation split.
    """

    steps: int
    batch: int
    lr: float
    weight_decay: float
    final_lr: float = 0.0
    warmup: int = 0
    beta2: float = 0.999
    clip: float | None = None
    smoothing: float = 0.0
    accumulate: int = 1
    precision: Precision = "float32"
    evaluate: int = 250

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "evaluate"):
            self._check(
                name, "a whole number, at least 1", lambda value: _whole(value) and value > 0
            )
        self._check(
            "warmup", "a whole number, at least 0", lambda value: _whole(value) and value >= 0
        )
        self._check("lr", "a positive number", lambda value: _finite(value) and value > 0)
        for name in ("weight_decay", "final_lr"):
            self._check(name, "a number, at least 0", lambda value: _finite(value) and value >= 0)
        for name in ("beta2", "smoothing"):
            self._check(name, "in [0, 1)", lambda value: _finite(value) and 0 <= value < 1)
        positive = "a positive number, or null for none"
        self._check("clip", positive, lambda value: value is None or (_finite(value) and value > 0))
        precisions = get_args(Precision)
        self._check("precision", f"one of {', '.join(precisions)}", precisions.__contains__)
        if self.batch % self.accumulate:
            raise ValueError(
                f"a batch of {self.batch} is not divisible into {self.accumulate} micro-batches; "
                "choose accumulate among its divisors"
            )

    def _check(self, name: str, needed: str, valid: Callable[[Any], bool]) -> None:
        if not valid(getattr(self, name)):
            raise ValueError(f"{name} is {getattr(self, name)!r}, but must be {needed}")


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True)
class Preset:
    """A model and its data by name, with the recipe they are trained by unless told otherwise.

    Attributes:
        model: name in `dynadiag.models`.
        data: name in `dynadiag.data`.
        recipe: the default recipe.
        changes: fields of the model's configuration that differ from those of its name.
        sparse_changes: those that differ for a sparse method only.
        exclude: patterns of the layers every method leaves dense.
        cost: seconds a dense step takes, roughly: a pool starts the longest run first.
    """

    model: str
    data: str
    recipe: Recipe
    changes: Mapping[str, Option] = field(default_factory=dict)
    sparse_changes: Mapping[str, Option] = field(default_factory=dict)
    exclude: tuple[str, ...] = ("head",)
    cost: float = 1.0

    def changes_for(self, method: str) -> dict[str, Option]:
        """Return the changes of the model's configuration when it is trained by a method."""
        return {**self.changes, **(self.sparse_changes if method != "dense" else {})}


def _digits(model: str, batch: int, cost: float) -> Preset:
    recipe = Recipe(steps=1000, batch=batch, lr=3e-3, weight_decay=0.05, warmup=50)
    return Preset(model, "digits", recipe, cost=cost)


def _imagenet(model: str, weight_decay: float) -> Preset:
    epoch = 1251
    recipe = Recipe(
        steps=300 * epoch,
        batch=1024,
        lr=1e-3,
        weight_decay=weight_decay,
        warmup=5 * epoch,
        precision="bfloat16",
        evaluate=epoch,
    )
    return Preset(model, "imagenet", recipe, sparse_changes={"drop_path": 0.0})


def _cifar(model: str, classes: int, epochs: int, final_lr: float) -> Preset:
    epoch = 391
    recipe = Recipe(
        steps=epochs * epoch,
        batch=128,
        lr=1e-3,
        final_lr=final_lr,
        weight_decay=5e-5,
        beta2=0.99,
        warmup=5 * epoch,
        smoothing=0.1,
        evaluate=epoch,
    )
    return Preset(model, f"cifar{classes}", recipe, {"classes": classes})


def _gpt2() -> Preset:
    # The text is read as bytes, which need no tokenizer: losses are per byte, not per token.
    epoch = 1032
    recipe = Recipe(
        steps=100 * epoch,
        batch=512,
        lr=1e-4,
        weight_decay=0.1,
        warmup=5 * epoch,
        accumulate=16,
        precision="bfloat16",
        evaluate=epoch,
    )
    return Preset("gpt2_small", "wikitext103", recipe, {"vocabulary": 256})


# Below the small ones: recipes of the paper (arXiv 2506.11449, appendix C), with epochs as steps.
# It names no batch for ViT-B, Mixer-S (1024 here) and GPT-2 (512 sequences here). Not done here are
# its AutoAugment and CutMix.
_PRESETS = {
    "digits-mlp": _digits("mlp_digits", batch=64, cost=0.001),
    "digits-vit": _digits("vit_digits", batch=32, cost=0.01),
    "digits-mixer": _digits("mixer_digits", batch=32, cost=0.01),
    "text-gpt": Preset(
        "gpt_text",
        "stdlib-text",
        Recipe(steps=700, batch=16, lr=4e-3, weight_decay=0.1, warmup=50, beta2=0.95, clip=1.0),
        cost=0.05,
    ),
    # 20 looks at the 55,000 images that are not held out, on the MLP of the published code.
    "mlp-mnist": Preset(
        "mlp_mnist",
        "mnist",
        Recipe(steps=20 * 430, batch=128, lr=1e-3, weight_decay=0.05, warmup=430, evaluate=430),
        cost=0.005,
    ),
    "vit-b16-imagenet": _imagenet("vit_b16", weight_decay=0.05),
    "mixer-s16-imagenet": _imagenet("mixer_s16", weight_decay=0.1),
    "gpt2-small-wikitext103": _gpt2(),
    "mixer-cifar10": _cifar("mixer_cifar", 10, epochs=300, final_lr=1e-6),
    "mixer-cifar100": _cifar("mixer_cifar", 100, epochs=300, final_lr=1e-6),
    "vit-cifar10": _cifar("vit_cifar", 10, epochs=200, final_lr=1e-5),
    "vit-cifar100": _cifar("vit_cifar", 100, epochs=200, final_lr=1e-5),
}


def presets() -> dict[str, Preset]:
    """Return the presets by name."""
    return dict(_PRESETS)


def preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        ValueError: if the name is unknown; the message lists the known ones.
    """
    if name not in _PRESETS:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(_PRESETS)}")
    return _PRESETS[name]
