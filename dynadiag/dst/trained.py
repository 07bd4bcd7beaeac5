"""What a Scheduler needs of a model and its optimizer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer

from ..nn.dynamic import DynamicLinear
from .layers import sparse_linears
from .method import Method
from .methods import Dense, Static


def common_method(model: nn.Module, layers: Mapping[str, DynamicLinear]) -> Method:
    """Return the method that rules all the layers.

    Args:
        model: converted; where no layer is dynamic, their topology rests.
        layers: those that are dynamic, by name.

    Raises:
        ValueError: the model has no sparse layer, one has no method, or two have different ones.
    """
    if not layers:
        if sparse_linears(model):
            return Static()
        if is_dense_arm(model):
            return Dense()
        raise ValueError(
            "the model has no sparse layer, so there is nothing to schedule; convert it first "
            "with dynadiag.convert_"
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


def check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    """Raise ValueError unless an optimizer holds every trainable parameter of sparse layers."""
    held = learning_rates(optimizer)
    missing = [
        f"{name}.{part}"
        for name, layer in sparse_linears(model).items()
        for part, parameter in layer.named_parameters()
        if parameter.requires_grad and parameter not in held
    ]
    if missing:
        raise ValueError(
            f"{missing[0]} is not in the optimizer ({len(missing)} such parameters); make the "
            "optimizer after converting and wrapping the model, from dynadiag.param_groups(model)"
        )


def is_dense_arm(model: nn.Module) -> bool:
    """Return whether a model was converted by the method that leaves its layers dense."""
    return any(isinstance(getattr(module, "method", None), Dense) for module in model.modules())


def learning_rates(optimizer: Optimizer) -> dict[nn.Parameter, float]:
    """Return the learning rate of each parameter, 0 where the optimizer finds its own."""
    return {
        parameter: float(group.get("lr") or 0)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
