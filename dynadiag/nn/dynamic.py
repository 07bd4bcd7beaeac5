"""What a layer offers while its topology is trained: which units it keeps, and how they do."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

from .base import SparseLinear
from .sharded import assign_, full


class DynamicLinear(SparseLinear):
    """A sparse linear layer whose topology may change between steps.

    It is made of *units*, single weights or whole diagonals, some of which are active. What a
    method asks of it is computed on whole tensors, also where FSDP2 spreads the parameters.

    Attributes:
        method: what rules the topology, set by `dynadiag.convert_`; None for a layer made by hand.
            Not part of the state.
        dense_gradient: 0-dim bool on the CPU, whether the backward of the next forward, or of
            `weight`, leaves in `values.grad` the gradients of inactive units too, as if they had
            weight 1. A compiled layer reads it at run time and is not compiled again. Not part of
            the state.
        num_active_target: the number of units active when training ends.
    """

    method: object | None
    dense_gradient: Tensor
    num_active_target: int

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features, out_features, bias, sparsity=sparsity, device=device, dtype=dtype
        )
        self.method = None
        self.dense_gradient = torch.zeros((), dtype=torch.bool, device="cpu")

    @property
    @abc.abstractmethod
    def units(self) -> int:
        """Number of units there are to choose from."""

    @property
    @abc.abstractmethod
    def kept(self) -> int:
        """Number of units active now."""

    @abc.abstractmethod
    def active(self) -> Tensor:
        """Return which units are active: bool, one entry a unit."""

    @abc.abstractmethod
    def strength(self) -> Tensor:
        """Return how much each unit counts: float32, the magnitude of its weights."""

    @abc.abstractmethod
    def over_values(self, units: Tensor) -> Tensor:
        """Return a mask of units as one of the shape of `values`, without copying."""

    @abc.abstractmethod
    def compact(self) -> SparseLinear:
        """Return an independent layer of fixed topology with the same output."""

    @abc.abstractmethod
    def _magnitudes(self, values: Tensor) -> Tensor:
        """Return one magnitude a unit, for a tensor of the shape of `values`."""

    @abc.abstractmethod
    def _activate(self, active: Tensor, before: Tensor) -> None:
        """Make exactly these units active; `before` is what was."""

    def set_dense_gradient(self, on: bool) -> None:
        """Say whether the next forward and backward leave gradients of inactive units too."""
        # Not a change autograd may object to: a compiled forward saves the flag for its backward.
        self.dense_gradient.data.fill_(on)

    def gradient_strength(self) -> Tensor:
        """Return the magnitude of each unit's gradient: float32, shaped like `active()`.

        Raises:
            RuntimeError: there is no gradient.
        """
        if self.values.grad is None:
            raise RuntimeError(
                "values have no gradient; run a backward first, and ask before zero_grad()"
            )
        return self._magnitudes(full(self.values.grad).float())

    @torch.no_grad()
    def set_active(self, active: Tensor, *, zero_grown: bool = True) -> None:
        """Change the topology; moments that an optimizer keeps are the caller's to reset.

        Args:
            active: bool, one entry a unit; any number of them, but at least one.
            zero_grown: whether units that become active start at zero.

        Raises:
            ValueError: the shape or dtype is not that of `active()`, or no unit is active.
        """
        before = self.active()
        if active.shape != before.shape or active.dtype != torch.bool:
            raise ValueError(
                f"active is {active.dtype} of shape {tuple(active.shape)}, but must be a bool "
                f"tensor of shape {tuple(before.shape)}, one entry a unit"
            )
        active = active.to(before.device)
        if not active.any():
            raise ValueError("active has no unit left; keep at least one")
        self._activate(active, before)
        if zero_grown:
            self._zero(self.values, active & ~before)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Set the gradients of inactive units to zero, in place, if there are gradients."""
        if self.values.grad is not None:
            self._zero(self.values.grad, ~self.active())

    def _zero(self, target: Tensor, units: Tensor) -> None:
        assign_(target, full(target).masked_fill(self.over_values(units), 0))

    def _hand_over(self, layer: SparseLinear) -> None:
        """Give a compact layer the bias, and the sparsity that was asked for."""
        layer.requested_sparsity = self.requested_sparsity
        if layer.bias is not None and self.bias is not None:
            layer.bias.copy_(full(self.bias))
