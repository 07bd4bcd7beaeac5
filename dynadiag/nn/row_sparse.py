"""What the layers that store their weight row by row share."""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial

from torch import Tensor

from dynadiag.nn.rows import Rows, embedding_bag, gemm_gather, sampled, torch_csr
from dynadiag.nn.tuned import TunedSparseLinear

FORMULATIONS = {"torch_csr": torch_csr, "embedding_bag": embedding_bag}


class RowSparseLinear(TunedSparseLinear):
    """A layer whose kept weights are stored row by row, with or without row starts.

    What a backward needs beyond the format (the transposed pattern, the flat positions) is
    built at the first backward and kept; `weight_bytes` counts what a forward reads.
    """

    _for_backward: Rows | None = None
    _formulation: str | None = None

    @abc.abstractmethod
    def _rows_of(self, *buffers: Tensor) -> Rows:
        """Return the rows that the buffers named in `pattern` describe."""

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values`."""
        flat = self.values.new_zeros(self.out_features * self.in_features)
        flat = flat.scatter(0, self._rows().positions, self.values.flatten())
        return flat.view(self.out_features, self.in_features)

    def _rows(self) -> Rows:
        return self._rows_of(*(getattr(self, name) for name in self.pattern))

    def _rows_for_backward(self) -> Rows:
        if self._for_backward is None:
            self._for_backward = self._rows()
        return self._for_backward

    def _pattern_changed(self) -> None:
        self._for_backward = None

    def _gather(self, dense: Tensor) -> Tensor:
        return dense.flatten()[self._rows().positions].view_as(self.values)

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        return self._rows_of(*buffers).problem()

    def _ways(self, rows: Rows, values: Tensor, xt: Tensor) -> dict[str, Callable[[], Tensor]]:
        """Return the ways to compute W xᵀ for the W that rows and values make."""
        ways = FORMULATIONS if self._formulation is None else (self._formulation,)
        return {name: partial(FORMULATIONS[name], rows, values, xt) for name in ways}

    def _forward_ways(self, values: Tensor, xt: Tensor) -> dict[str, Callable[[], Tensor]]:
        return self._ways(self._rows(), values.flatten(), xt)

    def _product(self, values: Tensor, xt: Tensor) -> Tensor:
        ways = self._forward_ways(values, xt)
        return self._tuner.run("forward", values, xt.shape[1], ways)

    def _transposed_product(self, values: Tensor, gt: Tensor) -> Tensor:
        rows, order = self._rows_for_backward().transposed
        ways = self._ways(rows, values.flatten()[order], gt)
        return self._tuner.run("grad_x", values, gt.shape[1], ways)

    def _sampled_product(self, values: Tensor, gt: Tensor, x: Tensor) -> Tensor:
        arguments = (self._rows_for_backward(), values.flatten(), gt, x)
        ways: dict[str, Callable[[], Tensor]] = {
            "sampled": partial(sampled, *arguments),
            "gemm_gather": partial(gemm_gather, *arguments),
        }
        return self._tuner.run("grad_values", values, len(x), ways).view_as(values)
