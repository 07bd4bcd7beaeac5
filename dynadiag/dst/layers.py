"""The layers of a model that are trained sparse, looked up whenever they are needed."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from ..nn.dynamic import DynamicLinear

Kind = TypeVar("Kind", bound=nn.Module)

# What DistributedDataParallel, torch.compile and activation checkpointing put before a name.
_WRAPPERS = {"module", "_orig_mod", "_checkpoint_wrapped_module"}


def dynamic_layers(model: nn.Module) -> dict[str, DynamicLinear]:
    """Return the layers of a model whose topology is still in training, by name, in module order.

    Nothing is kept: layers and parameters may be replaced between two calls, as FSDP does.
    """
    return modules_of(model, DynamicLinear)


def modules_of(model: nn.Module, kind: type[Kind]) -> dict[str, Kind]:
    """Return the modules of a class by name, in module order.

    Names are those of the model itself, without what wrappers add, so that they are the same on one
    process and on many.
    """
    return {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): module
        for name, module in model.named_modules()
        if isinstance(module, kind)
    }
