"""A linear layer whose weight is K wrapped diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import functional, geometry, kernels, operators
from .base import SparseLinear


class DiagonalLinear(SparseLinear):
    """y = x Wᵀ + b, W made of K wrapped diagonals at fixed offsets (arXiv 2506.11449, eq. 2-4).

    Holds K·D values and K int32 offsets, D = min(in_features, out_features). Say how many diagonals
    by exactly one of `sparsity` and `num_diagonals`, or give the `offsets` themselves; without
    offsets, distinct random ones are drawn with torch's global generator.

    Attributes:
        values: (K, D) parameter.
        offsets: (K,) int32 buffer.
        backend: what computes the products; see `dynadiag.backends()`.
    """

    format: ClassVar[str] = "diagonal"
    pattern: ClassVar[tuple[str, ...]] = ("offsets",)
    offsets: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float | None = None,
        num_diagonals: int | None = None,
        offsets: Sequence[int] | Tensor | None = None,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        geometry.check_features(in_features, out_features)
        kernels.check_name(backend)
        given = None if offsets is None else geometry.as_offsets(offsets, out_features, in_features)
        k = _count(in_features, out_features, sparsity, num_diagonals, given)
        requested = geometry.achieved_sparsity(out_features, in_features, k)
        super().__init__(
            in_features,
            out_features,
            bias,
            sparsity=requested if sparsity is None else sparsity,
            device=device,
            dtype=dtype,
        )
        self.backend = backend
        length = geometry.diagonal_length(out_features, in_features)
        self.values = nn.Parameter(torch.empty(k, length, device=device, dtype=dtype))
        self.register_buffer("offsets", torch.zeros(k, dtype=torch.int32, device=device))
        if given is None:
            candidates = geometry.num_candidates(out_features, in_features)
            given = torch.randperm(candidates)[:k].sort().values.int()
        if not self.values.is_meta:
            self._set_pattern(given)
        self.reset_parameters()

    @classmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        device: str = "cpu",
    ) -> str | None:
        """Return None: diagonals fit every shape and sparsity."""
        return None

    @property
    def num_diagonals(self) -> int:
        """K."""
        return len(self.values)

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values`."""
        return functional.diagonal_to_dense(
            self.values, self.offsets, out_features=self.out_features, in_features=self.in_features
        )

    @property
    def config(self) -> str:
        """The backend, and the number of diagonals."""
        return f"backend={self.backend} num_diagonals={self.num_diagonals}"

    def chosen(self, batch: int) -> dict[str, str]:
        """Return the backend that serves each direction at this many batch rows."""
        m, n, k = self.out_features, self.in_features, self.num_diagonals
        device, dtype = self.values.device.type, self.values.dtype
        threads = torch.get_num_threads()
        return {
            direction: kernels.choose(
                self.backend, direction, device, dtype, m, n, k, batch, threads
            ).name
            for direction in kernels.DIRECTIONS
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b, as `SparseLinear.forward`; the operator takes any leading dimensions."""
        try:  # nn.Module's own look-up takes 0.8 us an attribute, a twentieth of a small product
            values, bias = self._parameters["values"], self._parameters["bias"]
            offsets = self._buffers["offsets"]
        except KeyError:  # pruned: a plain attribute takes the place of the parameter
            return super().forward(x)
        if (
            values is not None
            and offsets is not None
            and x.shape[-1:] == (self.in_features,)
            and x.dtype == values.dtype
            and x.device == values.device
            and not x.is_meta
            and not torch.is_autocast_enabled(x.device.type)
        ):
            return operators.linear(x, values, offsets, bias, self.out_features, self.backend)
        return super().forward(x)

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        return functional.diagonal_linear(
            x, values, self.offsets, bias, out_features=self.out_features, backend=self.backend
        )

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        every = torch.arange(max(scores.shape), device=scores.device)
        rows, columns = geometry.cells(every, self.out_features, self.in_features)
        strength = scores[rows, columns].square().sum(1)
        best = strength.sort(descending=True, stable=True).indices[: self.num_diagonals]
        return (best.sort().values.int(),)

    def _gather(self, dense: Tensor) -> Tensor:
        return functional.dense_to_diagonal(dense, self.offsets)

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        try:
            geometry.check_offsets(buffers[0], self.out_features, self.in_features)
        except ValueError as error:
            return str(error)
        return None


def _count(
    in_features: int,
    out_features: int,
    sparsity: float | None,
    num_diagonals: int | None,
    offsets: Tensor | None,
) -> int:
    """Return K from the one way it was given."""
    ways = {"sparsity": sparsity, "num_diagonals": num_diagonals, "offsets": offsets}
    named = [name for name, way in ways.items() if way is not None]
    if len(named) != 1:
        raise ValueError(
            f"got {' and '.join(named) or 'none'} of sparsity, num_diagonals and offsets; "
            "pass exactly one of them"
        )
    if sparsity is not None:
        return geometry.num_diagonals(out_features, in_features, sparsity)
    if offsets is not None:
        return len(offsets)
    assert num_diagonals is not None
    geometry.check_num_diagonals(out_features, in_features, num_diagonals)
    return num_diagonals
