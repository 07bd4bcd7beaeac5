"""The arms: ways to compute a linear layer, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dynadiag import kernels
from dynadiag.bench.records import Row
from dynadiag.nn import (
    BlockLinear,
    CondensedLinear,
    CSRLinear,
    DiagonalLinear,
    MaskedDenseLinear,
    NMLinear,
)
from dynadiag.nn.dia_ust import DiaUstLinear

from .cases import DIRECTIONS, Case

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Arm:
    """One way to compute a case.

    Attributes:
        format: how the weight is stored.
        layer: class of the layer.
        structure: what its format takes beyond sizes, sparsity and dtype.
        backend: of a layer with several; None for the others, which are made of torch operators.
        devices: where it runs.
        sparsity: the only one it can have, whatever that of the case.
        directions: what it computes.
        tf32: its float32 products may round what they multiply to TF32.
    """

    format: str
    layer: Any
    structure: Mapping[str, Any]
    backend: str | None = None
    devices: tuple[str, ...] = DEVICES
    sparsity: float | None = None
    directions: tuple[str, ...] = DIRECTIONS
    tf32: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether this is torch's own layer."""
        return issubclass(self.layer, nn.Linear)

    def why_not(self, case: Case, device: str = "cpu") -> str | None:
        """Return why the arm cannot compute a case on a device, or None if it can."""
        if device not in self.devices:
            return f"it runs on {' and '.join(self.devices)}, not on {device}"
        if case.direction not in self.directions:
            return f"it computes {' and '.join(self.directions)} only"
        if self.tf32 and case.dtype != "float32":
            return f"TF32 is a way to multiply float32, not {case.dtype}"
        if self.is_dense:
            return None
        dtype = getattr(torch, case.dtype)
        if self.backend not in (None, kernels.AUTO):
            reason = kernels.get(str(self.backend)).why_not(device, dtype)
            if reason is not None:
                return reason
        sizes = (case.in_features, case.out_features, self.sparsity or case.sparsity, dtype)
        # Backends have just spoken for the device.
        place = {"device": device} if self.backend is None else {}
        found: str | None = self.layer.why_not(*sizes, **self.structure, **place)
        return found

    def build(self, case: Case, seed: int, device: str = "cpu") -> nn.Module:
        """Return a layer with random weights, and where it is sparse with a support of its own."""
        torch.manual_seed(seed)
        options: dict[str, Any] = {"dtype": getattr(torch, case.dtype), "device": device}
        options |= self.structure
        if not self.is_dense:
            options["sparsity"] = self.sparsity or case.sparsity
        if self.backend is not None:
            options["backend"] = self.backend
        layer: nn.Module = self.layer(case.in_features, case.out_features, **options)
        return layer

    def columns(self, layer: Any, case: Case) -> Row:
        """Return what a row says about the arm, and about its layer where there is one."""
        about: Row = {"format": self.format, "backend": self.backend or "torch"}
        about["is_baseline"] = self.format == "dense"
        if layer is None:
            return about
        if self.is_dense:
            return about | {"sparsity_actual": 0.0, "nnz": layer.weight.numel()}
        names = {"sparsity_actual": "sparsity", "nnz": "nnz"}
        names |= {"index_dtype": "index_dtype", "config": "config"}
        about |= {column: getattr(layer, name) for column, name in names.items()}
        if self.backend == kernels.AUTO:
            about["config"] += f" {_choices(layer, case)}"
        return about


def _choices(layer: DiagonalLinear, case: Case) -> str:
    """Return what `auto` stands for in the directions that the case computes."""
    chosen = layer.chosen(case.batch)
    computed = chosen if case.direction == "step" else [case.direction]
    return " ".join(f"{direction}={chosen[direction]}" for direction in computed)


def _diagonal(backend: str, *devices: str) -> Arm:
    return Arm("diagonal", DiagonalLinear, {}, backend, devices or DEVICES)


def _rival(layer: Any, *devices: str, **structure: Any) -> Arm:
    return Arm(layer.format, layer, structure, devices=devices or DEVICES)


ARMS: dict[str, Arm] = {
    "dense": Arm("dense", nn.Linear, {}),
    "dense_again": Arm("dense", nn.Linear, {}),
    "dense_tf32": Arm("dense_tf32", nn.Linear, {}, devices=("cuda",), tf32=True),
    "diagonal": _diagonal("auto"),
    "diagonal_cpu": _diagonal("cpu", "cpu"),
    "diagonal_cuda": _diagonal("cuda", "cuda"),
    "diagonal_dense": _diagonal("dense"),
    "diagonal_reference": _diagonal("reference"),
    "csr": _rival(CSRLinear),
    "csr_torch": _rival(CSRLinear, formulation="torch_csr"),
    "csr_cusparse": _rival(CSRLinear, "cuda", formulation="cusparse"),
    "nm": _rival(NMLinear),
    "nm24": Arm("nm24", NMLinear, {"formulation": "cusparselt"}, devices=("cuda",), sparsity=0.5),
    "block16": _rival(BlockLinear, block=16),
    "block32": _rival(BlockLinear, block=32),
    "block64": _rival(BlockLinear, block=64),
    "condensed": _rival(CondensedLinear),
    "masked_dense": _rival(MaskedDenseLinear),
    "dia_ust": Arm("dia_ust", DiaUstLinear, {}, devices=("cuda",), directions=("forward",)),
}


def stored_weight(layer: Any) -> nn.Parameter:
    """Return the parameter that holds the weight."""
    weight = layer.weight if isinstance(layer, nn.Linear) else layer.values
    assert isinstance(weight, nn.Parameter)
    return weight


def weight_bytes(layer: Any) -> int:
    """Return the bytes of values, indices and metadata."""
    return int(layer.weight.nbytes if isinstance(layer, nn.Linear) else layer.weight_bytes)
