"""The N:M rival: n of every m consecutive inputs, a pattern that hardware knows as 2:4."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from dynadiag.geometry import check_features, check_sparsity
from dynadiag.nn import cusparse, cusparselt
from dynadiag.nn.kept import kept
from dynadiag.nn.row_sparse import RowSparseLinear
from dynadiag.nn.rows import Rows, dense_gemm, written_out
from dynadiag.nn.selection import largest_of_each
from dynadiag.nn.tuning import Ways, of_formulation, plus_bias

GROUP_SIZES = (4, 8, 16, 32, 64, 128)
_LARGEST_GROUP = 256  # indices within a group are one byte


class NMLinear(RowSparseLinear):
    """Linear layer that keeps n of every m consecutive inputs of each output.

    `values` is (out_features, in_features · n / m); `indices`, of the same shape, is the place
    of each within its group, rising, as uint8, widened to columns in each forward. Products take
    the formulation measured as fastest, or the one named: `torch_csr`, `embedding_bag`,
    `dense_gemm`; on CUDA also `cusparse`, and `cusparselt`, which computes y of 2:4 in 16 bits on
    sparse tensor cores and leaves both gradients, which are not 2:4, to the fastest of the others.

    Args:
        in_features: a multiple of m.
        out_features: any size.
        bias: whether to add a bias.
        sparsity: picks the n:m nearest to it with m in 4, 8, ..., 128, the smallest m first.
        n: how many are kept, instead of `sparsity` and together with `m`.
        m: size of a group, at most 256.
        formulation: the one way to compute products; None for the fastest.
        device: where parameters and buffers live.
        dtype: of the parameters.
    """

    format: ClassVar[str] = "nm"
    pattern: ClassVar[tuple[str, ...]] = ("indices",)
    formulations: ClassVar[tuple[str, ...]] = (
        *("torch_csr", "embedding_bag", "dense_gemm"),
        *("cusparse", "cusparselt"),
    )
    indices: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float | None = None,
        n: int | None = None,
        m: int | None = None,
        formulation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._check_formulation(formulation)
        check_features(in_features, out_features)
        n, m = self._choose(in_features, out_features, sparsity, n, m)
        sparsity = 1 - n / m if sparsity is None else sparsity
        super().__init__(
            in_features, out_features, bias, sparsity=sparsity, device=device, dtype=dtype
        )
        self.n, self.m = n, m
        self._formulation = formulation
        shape = (out_features, in_features // m * n)
        self.values = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.register_buffer("indices", torch.zeros(shape, device=device, dtype=torch.uint8))
        self._draw()

    @classmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        formulation: str | None = None,
        device: str = "cpu",
    ) -> str | None:
        """Return why no n:m is within 1 percentage point, or cannot be multiplied, or None."""
        pair = nearest_pair(in_features, sparsity)
        sizes = ", ".join(map(str, GROUP_SIZES))
        if pair is None:
            return f"in_features is {in_features}, but N:M needs a multiple of one of {sizes}"
        reached = 1 - pair[0] / pair[1]
        if abs(reached - sparsity) > 0.01 + 1e-9:
            return (
                f"sparsity {sparsity} is more than 1 percentage point from {pair[0]}:{pair[1]} "
                f"({reached:.4g}), the nearest N:M that in_features = {in_features} allows; "
                f"ask for that, or give n and m"
            )
        if formulation == "cusparselt":
            return cusparselt.why_not(device, dtype, in_features, out_features, *pair)
        if formulation == "cusparse":
            return cusparse.why_not(device, dtype)
        return None

    def extra_repr(self) -> str:
        """Return the constructor arguments, with the sparsity that was reached."""
        return f"{super().extra_repr()}, n={self.n}, m={self.m}"

    def _choose(
        self,
        in_features: int,
        out_features: int,
        sparsity: float | None,
        n: int | None,
        m: int | None,
    ) -> tuple[int, int]:
        if sparsity is not None and n is None and m is None:
            check_sparsity(sparsity)
            self._refuse(self.why_not(in_features, out_features, sparsity))
            return nearest_pair(in_features, sparsity) or (1, 1)
        if sparsity is not None or n is None or m is None:
            raise ValueError(
                f"sparsity is {sparsity}, n is {n}, m is {m}; give either sparsity, or n and m"
            )
        if not 1 <= n <= m <= _LARGEST_GROUP or in_features % m:
            raise ValueError(
                f"{n}:{m} is impossible for in_features = {in_features}; "
                f"n must be in 1..m, m at most {_LARGEST_GROUP} and a divisor of in_features"
            )
        return n, m

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        groups = scores.view(self.out_features, -1, self.m)
        return (largest_of_each(groups, self.n).view_as(self.indices),)

    def _rows_of(self, *buffers: Tensor) -> Rows:
        (indices,) = buffers
        starts = torch.arange(0, self.in_features, self.m, dtype=torch.int32, device=indices.device)
        return Rows.even(indices + starts.repeat_interleave(self.n), self.in_features)

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        if int(buffers[0].max()) >= self.m:
            return f"an index is not below m = {self.m}"
        return super()._wrong_pattern(*buffers)

    def _ways(self, rows: Rows, values: Tensor, xt: Tensor) -> Ways:
        # Up to 75 % sparsity on fp32, and further where dense has matrix units, GEMM wins.
        return {
            **super()._ways(rows, values, xt),
            "dense_gemm": partial(dense_gemm, rows, values, xt),
        }

    @property
    def _gradient_formulation(self) -> str | None:
        return None if self._formulation == "cusparselt" else self._formulation

    def _product(self, values: Tensor, xt: Tensor, bias: Tensor | None) -> Tensor:
        if not values.is_cuda and self._formulation != "cusparselt":
            return super()._product(values, xt, bias)
        rows = self._rows_kept()
        write = partial(written_out, rows, values.flatten())
        dense = partial(kept, "dense", self.values, values, rows, write)
        ways = self._ways(rows, values.flatten(), xt)
        ways["dense_gemm"] = lambda: dense() @ xt
        ways = plus_bias(ways, bias) | self._semi_structured_ways(rows, values, xt, bias)
        ways = of_formulation(ways, self._formulation)
        return self._tuner.run("forward", values, xt.shape[1], ways)

    def _semi_structured_ways(
        self, rows: Rows, values: Tensor, xt: Tensor, bias: Tensor | None
    ) -> Ways:
        sizes = (self.in_features, self.out_features, self.n, self.m)
        reason = cusparselt.why_not(values.device.type, values.dtype, *sizes)

        def pack() -> Tensor:
            return cusparselt.compress(written_out(rows, values.flatten()))

        packed = partial(kept, "packed", self.values, values, rows, pack)
        return cusparselt.ways(reason, self.out_features, packed, xt, bias)


def nearest_pair(in_features: int, sparsity: float) -> tuple[int, int] | None:
    """Return the n:m of a usual group size nearest to a sparsity; None if no size divides."""
    pairs = [(n, m) for m in GROUP_SIZES if in_features % m == 0 for n in range(1, m + 1)]
    return min(pairs, key=lambda pair: abs(1 - pair[0] / pair[1] - sparsity), default=None)
