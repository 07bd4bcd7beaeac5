"""The layers of a model that are trained sparse, looked up whenever they are needed."""

from __future__ import annotations

from torch import nn

from ..nn import SparseLinear
from ..nn.dynamic import DynamicLinear

# What DistributedDataParallel, torch.compile and activation checkpointing put before a name.
_WRAPPERS = {"module", "_orig_mod", "_checkpoint_wrapped_module"}


def dynamic_layers(model: nn.Module) -> dict[str, DynamicLinear]:
    """Return the layers of a model whose topology is still in training, by name; as below."""
    return {
        n: layer for n, layer in sparse_linears(model).items() if isinstance(layer, DynamicLinear)
    }


def sparse_linears(model: nn.Module) -> dict[str, SparseLinear]:
    """Return the sparse layers of a model by name, in module order, the parts of a split one each.

    Names are those of the model itself, without what wrappers add, so that they are the same on one
    process and on many. Nothing is kept: layers and parameters may be replaced between two calls,
    as FSDP does.
    """
    return {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): module
        for name, module in model.named_modules()
        if isinstance(module, SparseLinear)
    }
