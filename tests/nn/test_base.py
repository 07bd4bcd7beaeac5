from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from dynadiag.nn import DiagonalLinear
from dynadiag.nn.base import SparseLinear


class OneColumn(SparseLinear):
    """Keeps one whole column: the smallest format there is."""

    format: ClassVar[str] = "one_column"
    pattern: ClassVar[tuple[str, ...]] = ("column",)
    column: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features, out_features, bias, sparsity=sparsity, device=device, dtype=dtype
        )
        self.values = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype))
        self.register_buffer("column", torch.zeros(1, dtype=torch.int64, device=device))
        self._draw()

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
        return None

    @property
    def weight(self) -> Tensor:
        zeros = self.values.new_zeros(self.out_features, self.in_features)
        return zeros.index_copy(1, self.column, self.values.unsqueeze(1))

    @property
    def config(self) -> str:
        return "outer product"

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        y = x[:, self.column] * values
        return y if bias is None else y + bias

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        return (scores.sum(0).argmax().reshape(1),)

    def _gather(self, dense: Tensor) -> Tensor:
        return dense[:, self.column].squeeze(1)

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        return None if int(buffers[0]) < self.in_features else "it is past the last column"


def test_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SparseLinear(4, 4, sparsity=0.5)  # type: ignore[abstract]


def test_sizes_come_from_the_tensors_stored() -> None:
    layer = OneColumn(4, 6, dtype=torch.float16)
    assert layer.nnz == 6
    assert layer.sparsity == 0.75
    assert layer.requested_sparsity == 0.5
    assert layer.weight_bytes == 6 * 2 + 8
    assert layer.index_dtype == "int64"


def test_from_linear_takes_the_heaviest_column() -> None:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -5.0, 2.0], [1.0, 4.0, -6.0]]))
    layer = OneColumn.from_linear(linear)
    assert layer.values.tolist() == [-5.0, 4.0]
    assert layer.column.tolist() == [1]


def test_repr_reports_the_sparsity_reached() -> None:
    expected = "OneColumn(in_features=4, out_features=6, bias=False, sparsity=0.75)"
    assert repr(OneColumn(4, 6, bias=False)) == expected


def test_a_missing_buffer_is_reported_by_torch() -> None:
    layer = OneColumn(4, 6)
    state = layer.state_dict()
    del state["column"]
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict(state)


def test_fresh_draw_of_values() -> None:
    layer = OneColumn(4, 6)
    column, values = layer.column.clone(), layer.values.detach().clone()
    layer.reset_parameters()
    assert torch.equal(layer.column, column)
    assert not torch.equal(layer.values, values)


def test_autocast_leaves_float64_alone() -> None:
    layer = DiagonalLinear(6, 4, sparsity=0.5, dtype=torch.float64)
    x = torch.randn(3, 6, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, layer(x))
