"""Models with sparse layers in one file, by which a dense model becomes what was saved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ..bench.files import temporary
from ..nn.sharded import full
from .blueprint import (
    DENSE,
    Blueprint,
    build,
    describe,
    difference,
    set_phase,
    sparse_layers,
)
from .candidates import as_linear
from .surgery import install_, like, linear_at

FORMAT = 1
_KEY = "dynadiag"


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model to a safetensors file, in any phase: converted, in training or frozen.

    The file holds every tensor of the state dict once and, as JSON, what `load_` needs to build the
    sparse layers again: classes, sizes, structure, and the method with its options. It appears
    whole or not at all. With FSDP2, all ranks must call; rank 0 writes.

    Args:
        model: a module whose state dict holds nothing but tensors.
        path: of the file, replaced if it is there.

    Raises:
        TypeError: a layer, or an entry of the state dict, is of a class that cannot be written.
        ModuleNotFoundError: safetensors is missing.
    """
    library = _safetensors()
    layers = {name: describe(layer) for name, layer in sparse_layers(model).items()}
    tensors, ties = _collect(model)
    header = {"format": FORMAT, "layers": layers, "ties": ties}
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0:
        return
    data: bytes = library.torch.save(tensors, {_KEY: json.dumps(header)})
    with temporary(Path(path)) as partial, partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load a file that `save` wrote, building the sparse layers it holds in a dense model.

    Device, dtype, training flag and frozen parameters of the model stay as they were.

    Args:
        model: changed in place, or not at all if anything does not fit. Dense, as before its
            conversion; or with the sparse layers of the saved one, which are then kept and filled.
        path: of the file.

    Returns:
        The model, in the phase in which it was saved.

    Raises:
        ValueError: the file was not written by `save`, has a newer format, or does not fit.
        ModuleNotFoundError: safetensors is missing.
    """
    header, state = _read(Path(path))
    blueprints: dict[str, Blueprint] = header["layers"]
    mine = sparse_layers(model)
    _check_plan(mine, blueprints, path)
    swaps: dict[nn.Module, nn.Module] = {}
    for name, blueprint in blueprints.items():
        with torch.random.fork_rng(devices=[]):  # a layer draws weights when it is made
            new = build(blueprint)
        old = mine[name] if name in mine else _dense(model, name, new, path)
        _fill(new, old, state, name, path)
        if name not in mine:
            swaps[old] = like(new, old)
    install_(model, swaps, state, str(path))
    for name, blueprint in blueprints.items():
        set_phase(model.get_submodule(name), blueprint)
    return model


def _collect(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each tensor of the state dict once, and the name it has for each other name of it."""
    state = model.state_dict(keep_vars=True)
    homes: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{name} in the state dict is a {type(tensor).__name__}, but a file holds tensors; "
                "save model.state_dict() with torch.save instead"
            )
        home = homes.setdefault(id(tensor), name)
        if home == name:
            tensors[name] = full(tensor.detach()).cpu().contiguous()
        else:
            ties[name] = home
    return tensors, ties


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a file says of its layers, and the whole state dict."""
    library = _safetensors()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass the file in it that dynadiag.save wrote")
    try:
        with library.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except library.SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    if _KEY not in metadata:
        raise ValueError(
            f"{path} was not written by dynadiag.save, its metadata has no {_KEY!r}; "
            "read its tensors with safetensors.torch.load_file"
        )
    header = json.loads(metadata[_KEY])
    if not {"format", "layers", "ties"} <= header.keys():
        raise ValueError(f"{path} is damaged: its metadata lacks what dynadiag.save writes")
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {header['format']}, but this dynadiag reads formats up to "
            f"{FORMAT}; upgrade it: pip install -U dynadiag"
        )
    return header, state | {name: state[home] for name, home in header["ties"].items()}


def _check_plan(
    mine: Mapping[str, nn.Module],
    blueprints: Mapping[str, Blueprint],
    path: str | os.PathLike[str],
) -> None:
    """Raise ValueError unless a model with sparse layers has those of the file."""
    if not mine:
        return
    # Through JSON, as those of the file: a tuple among the options has become a list there.
    plain = json.loads(json.dumps({name: describe(layer) for name, layer in mine.items()}))
    for name in plain | dict(blueprints):
        found = difference(plain.get(name, DENSE), blueprints.get(name, DENSE))
        if found is not None:
            raise ValueError(
                f"{path} holds a model of another plan: layer {name} has {found}; "
                "load it into the dense model, or convert by the same plan"
            )


def _dense(model: nn.Module, name: str, new: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Return the dense layer for which a layer of the file stands."""
    old = linear_at(model, name, str(path))
    here, there = _sizes(as_linear(old)), _sizes(new)
    if here != there:
        raise ValueError(
            f"{path} holds a sparse layer {name!r} that is {there}, but the model has {here} "
            "there; pass the dense model that it was made from"
        )
    return old


def _sizes(layer: nn.Module) -> str:
    bias = "without" if layer.bias is None else "with"
    return f"{layer.out_features} x {layer.in_features} {bias} bias"


def _fill(
    new: nn.Module,
    old: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    path: str | os.PathLike[str],
) -> None:
    """Load a layer, on the device and in the dtype of the one whose place it takes."""
    inside = f"{name}." if name else ""
    own = {key.removeprefix(inside): state[key] for key in state if key.startswith(inside)}
    place = next(old.parameters())
    try:
        new.to(place.device, place.dtype).load_state_dict(own)
    except RuntimeError as error:
        *_, last = str(error).splitlines()
        raise ValueError(f"{path} is damaged at layer {name}: {last.strip()}") from error


def _safetensors() -> ModuleType:
    """Return the library, or say how to get it."""
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "files of models need safetensors: pip install 'dynadiag[train]'"
        ) from error
    return safetensors
