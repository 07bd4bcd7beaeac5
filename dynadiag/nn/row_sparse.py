"""What the layers that store their weight row by row share."""

from __future__ import annotations

import abc
from functools import partial
from typing import ClassVar

from torch import Tensor

from dynadiag.nn import cusparse_csr, cusparse_prepared, cusparse_sampled
from dynadiag.nn.rows import Rows, embedding_bag, gemm_gather, sampled, torch_csr
from dynadiag.nn.tuned import TunedSparseLinear
from dynadiag.nn.tuning import Ways, of_formulation, plus_bias


class RowSparseLinear(TunedSparseLinear):
    """A layer whose kept weights are stored row by row, with or without row starts.

    What a backward needs beyond the format (the transposed pattern, the flat positions) is
    built at the first backward and kept; `weight_bytes` counts what a forward reads. On CUDA, where
    each step of unpacking indices is a launch, the rows themselves are kept too.
    """

    formulations: ClassVar[tuple[str, ...]] = ("torch_csr", "embedding_bag", "cusparse")
    _kept_rows: Rows | None = None

    @abc.abstractmethod
    def _rows_of(self, *buffers: Tensor) -> Rows:
        """Return the rows that the buffers named in `pattern` describe."""

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values`."""
        flat = self.values.new_zeros(self.out_features * self.in_features)
        flat = flat.scatter(0, self._rows().positions, self.values.flatten())
        return flat.view(self.out_features, self.in_features)

    @property
    def _gradient_formulation(self) -> str | None:
        return self._formulation

    def _rows(self) -> Rows:
        return self._rows_of(*(getattr(self, name) for name in self.pattern))

    def _rows_kept(self) -> Rows:
        if self._kept_rows is None:
            self._kept_rows = self._rows()
        return self._kept_rows

    def _pattern_changed(self) -> None:
        self._kept_rows = None

    def _gather(self, dense: Tensor) -> Tensor:
        return dense.flatten()[self._rows().positions].view_as(self.values)

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        return self._rows_of(*buffers).problem()

    def _ways(self, rows: Rows, values: Tensor, xt: Tensor) -> Ways:
        """Return the ways to compute W xᵀ for the W that rows and values make."""
        ways: Ways = {
            "torch_csr": partial(torch_csr, rows, values, xt),
            "embedding_bag": partial(embedding_bag, rows, values, xt),
        }
        if values.is_cuda or self._formulation == "cusparse":
            ways |= cusparse_csr.ways(rows, values, xt)
            ways |= cusparse_prepared.ways(rows, values, xt)
        return ways

    def _product(self, values: Tensor, xt: Tensor, bias: Tensor | None) -> Tensor:
        rows = self._rows_kept() if values.is_cuda else self._rows()
        ways = plus_bias(self._ways(rows, values.flatten(), xt), bias)
        ways = of_formulation(ways, self._formulation)
        return self._tuner.run("forward", values, xt.shape[1], ways)

    def _transposed_product(self, values: Tensor, gt: Tensor) -> Tensor:
        rows, order = self._rows_kept().transposed
        ways = self._ways(rows, values.flatten()[order], gt)
        ways = of_formulation(ways, self._gradient_formulation)
        return self._tuner.run("grad_x", values, gt.shape[1], ways)

    def _sampled_product(self, values: Tensor, gt: Tensor, x: Tensor) -> Tensor:
        rows = self._rows_kept()
        ways: Ways = {
            "sampled": partial(sampled, rows, values.flatten(), gt, x),
            "gemm_gather": partial(gemm_gather, rows, values.flatten(), gt, x),
        }
        if values.is_cuda:
            ways |= cusparse_sampled.ways(rows, gt, x)
        return self._tuner.run("grad_values", values, len(x), ways).view_as(values)
