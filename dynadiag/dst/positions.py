"""How many positions of an input each layer of a model sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from .examples import call, evaluating


def count_positions(model: nn.Module, names: Sequence[str], example: Any) -> list[int]:
    """Return how many vectors each layer multiplies when the model sees an example.

    The model runs once, in eval mode and without gradients, and is left as it was.

    Args:
        model: holds the layers.
        names: dotted paths of layers whose output ends in (..., out_features).
        example: a tensor, a tuple of positional or a mapping of keyword arguments.

    Raises:
        ValueError: a layer sees nothing of the example.
    """
    counts = dict.fromkeys(names, 0)
    with evaluating(model):
        hooks = [
            _watched(model, name).register_forward_hook(_adder(counts, name)) for name in names
        ]
        try:
            call(model, example)
        finally:
            for hook in hooks:
                hook.remove()
    for name, count in counts.items():
        if count == 0:
            raise ValueError(
                f"layer {name} sees nothing of the example; exclude it, or pass an example that "
                "reaches it"
            )
    return list(counts.values())


def _watched(model: nn.Module, name: str) -> nn.Module:
    """The module whose output counts: nn.MultiheadAttention reads its projection's weight."""
    parent = model.get_submodule(name.rpartition(".")[0])
    return parent if isinstance(parent, nn.MultiheadAttention) else model.get_submodule(name)


def _adder(counts: dict[str, int], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def add(module: nn.Module, inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        y = output[0] if isinstance(output, tuple) else output
        counts[name] += y.shape[:-1].numel()

    return add
