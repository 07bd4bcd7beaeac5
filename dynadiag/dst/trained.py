"""What a Scheduler needs of a model and its optimizer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer

from ..nn.dynamic import DynamicLinear
from .method import Method


def common_method(layers: Mapping[str, DynamicLinear]) -> Method:
    """Return the method that rules all the layers.

    Raises:
        ValueError: there are no layers, one has no method, or two have different ones.
    """
    if not layers:
        raise ValueError(
            "the model has no dynamic layer, so there is nothing to schedule; convert it first "
            "with dynadiag.convert_, by a method that trains the topology"
        )
    first = next(iter(layers))
    method = layers[first].method
    if not isinstance(method, Method):
        raise ValueError(
            f"layer {first} has no method; convert the model with dynadiag.convert_, or set "
            "layer.method to one of dynadiag.methods() on every dynamic layer"
        )
    for name, layer in layers.items():
        if layer.method != method:
            raise ValueError(
                f"layer {first} is trained by {method}, but {name} by {layer.method}; convert the "
                "model with one method, and exclude what it should leave alone"
            )
    return method


def check_optimizer(optimizer: Optimizer, layers: Mapping[str, DynamicLinear]) -> None:
    """Raise ValueError unless an optimizer holds every trainable parameter of the layers."""
    held = learning_rates(optimizer)
    missing = [
        f"{name}.{part}"
        for name, layer in layers.items()
        for part, parameter in layer.named_parameters()
        if parameter.requires_grad and parameter not in held
    ]
    if missing:
        raise ValueError(
            f"{missing[0]} is not in the optimizer ({len(missing)} such parameters); make the "
            "optimizer after converting and wrapping the model, from dynadiag.param_groups(model)"
        )


def learning_rates(optimizer: Optimizer) -> dict[nn.Parameter, float]:
    """Return the learning rate of each parameter, 0 where the optimizer finds its own."""
    return {
        parameter: float(group.get("lr") or 0)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
