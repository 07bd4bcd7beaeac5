"""The end of sparse training: layers that store and compute only what was chosen, or dense ones."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..nn.dynamic import DynamicLinear
from .blueprint import sparse_layers
from .layers import sparse_linears
from .method import Method
from .surgery import like, replace_
from .trained import is_dense_arm


def freeze_(model: nn.Module) -> nn.Module:
    """Replace every dynamic layer by its compact form, in place.

    Parameters are new and of other shapes: an optimizer, or a wrapper such as DDP, that is to go on
    with the model must be made anew. `freeze_report` tells beforehand what becomes of the output;
    where the selection is hard, it stays.

    Args:
        model: converted, and trained as long as it is to be. Sparse layers that are final already
            stay as they are.

    Returns:
        The model.

    Raises:
        ValueError: the model holds no sparse layer, or is itself a dynamic one.
    """
    replace_(model, compact_forms(model))
    return model


def compact_forms(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return what `freeze_` puts in the place of each dynamic layer; the model is left as it is.

    Raises:
        ValueError: as `freeze_`.
    """
    if not sparse_linears(model) and not is_dense_arm(model):
        raise ValueError(
            "the model has no sparse layer to freeze; convert it with dynadiag.convert_ and train "
            "it first"
        )
    layers = [module for module in model.modules() if isinstance(module, DynamicLinear)]
    _check_inside(model, layers)
    return {layer: like(_compact(layer), layer) for layer in layers}


def to_dense_(model: nn.Module) -> nn.Module:
    """Replace every sparse layer by an `nn.Linear` that computes the same, in place.

    Split layers become one. Dynamic layers keep the output that they have now, with all that a
    soft selection lets through.

    Args:
        model: in any phase; a dense one stays as it is.

    Returns:
        The model.

    Raises:
        ValueError: the model is itself a sparse layer.
    """
    layers = list(sparse_layers(model).values())
    _check_inside(model, layers)
    replace_(model, {layer: like(layer.to_linear(), layer) for layer in layers})
    return model


def _compact(layer: DynamicLinear) -> nn.Module:
    return layer.method.compact(layer) if isinstance(layer.method, Method) else layer.compact()


def _check_inside(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    if model in layers:
        raise ValueError(
            f"the model is itself a {type(model).__name__}, which cannot be replaced in place; "
            "wrap it in nn.Sequential"
        )
