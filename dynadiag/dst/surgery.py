"""Exchanging layers of a model in place, and filling it with the tensors of a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .candidates import candidates

_SHOWN = 4  # names listed of each kind of misfit


def replace_(model: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> None:
    """Put new modules where old ones are, under every name that an old one has in the model.

    The new ones take over the training flag. The mapping turned round undoes it.

    Args:
        model: holds the old modules; cannot be one of them.
        swaps: the new module for each old one.
    """
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in swaps:
                parent._modules[name] = swaps[child].train(child.training)


def like(new: nn.Module, old: nn.Module) -> nn.Module:
    """Freeze the parameters of a layer whose counterparts are frozen, and return it.

    Args:
        new: its biases follow those of `old`, all else the weights of `old`, frozen where all are.
        old: the linear layer, dense, sparse or split, whose place it takes.
    """
    trained: dict[bool, bool] = {}  # biases, and weights
    for name, parameter in old.named_parameters():
        part = name.rpartition(".")[2]
        if part != "alpha":
            bias = part == "bias"
            trained[bias] = trained.get(bias, False) or parameter.requires_grad
    for name, parameter in new.named_parameters():
        if not trained.get(name.rpartition(".")[2] == "bias", True):
            parameter.requires_grad_(False)
    return new


def linear_at(model: nn.Module, name: str, source: str) -> nn.Module:
    """Return the dense layer of a model whose place a sparse one is to take.

    Args:
        model: left as it is.
        name: dotted path of the layer.
        source: what holds a sparse layer of that name, for the error.

    Raises:
        ValueError: there is none, or it cannot be replaced.
    """
    found = {each.name: each for each in candidates(model)}
    refusal = found[name].refusal if name in found else "the model has no linear layer there"
    if refusal is not None:
        raise ValueError(
            f"{source} holds a sparse layer {name!r}, but {refusal}; "
            "pass the dense model that it was made from"
        )
    return model.get_submodule(name)


def install_(
    model: nn.Module, swaps: Mapping[nn.Module, nn.Module], state: Mapping[str, Tensor], source: str
) -> None:
    """Exchange layers, then load a whole state dict; change nothing unless all of it fits.

    Args:
        model: changed in place.
        swaps: the new module for each old one.
        state: of the model as it is to be.
        source: where the state comes from, for the error.

    Raises:
        ValueError: the state does not fit; the model is as before.
    """
    replace_(model, swaps)
    problem = _misfit(model.state_dict(keep_vars=True), state)
    if problem is not None:
        replace_(model, {new: old for old, new in swaps.items()})
        raise ValueError(f"{source} does not fit the model: {problem}")
    model.load_state_dict(state)


def _misfit(mine: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """Return what keeps `state` from being loaded, or None; `mine` has the tensors themselves."""
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(mine[name].shape)}"
        for name in mine
        if name in state and state[name].shape != mine[name].shape
    ]
    first: dict[int, str] = {}
    homes = {name: first.setdefault(id(tensor), name) for name, tensor in mine.items()}
    torn = [
        f"{name} and {home}"
        for name, home in homes.items()
        if name in state and home in state and not torch.equal(state[name], state[home])
    ]
    wrong = {
        "it lacks": [name for name in mine if name not in state],
        "the model has no": [name for name in state if name not in mine],
        "it holds another shape of": shapes,
        "tied in the model but different in it are": torn,
    }
    return "; ".join(f"{kind} {_some(names)}" for kind, names in wrong.items() if names) or None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
