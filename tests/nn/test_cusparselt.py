from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dynadiag.nn import cusparselt
from dynadiag.nn.nm import NMLinear


@dataclass
class FakeCusparselt:
    """torch's functions of cuSPARSELt; packing leaves the weight as it is.

    Attributes:
        plans: (alg_id, split_k, split_k_mode) of each product.
    """

    searches: int = 0
    packings: int = 0
    fails: bool = False
    plans: list[tuple[int, int, int]] = field(default_factory=list)

    def compress(self, weight: Tensor) -> Tensor:
        assert ((weight.view(len(weight), -1, 4) != 0).sum(2) <= 2).all()
        self.packings += 1
        return weight

    def search(self, packed: Tensor, dense: Tensor, bias: Tensor | None) -> int:
        assert dense.shape[1] % 8 == 0
        assert dense.is_contiguous() or dense.t().is_contiguous()
        if self.fails:
            raise RuntimeError("CUDA error: operation not supported when calling search\nmore")
        self.searches += 1
        return 12

    def mm_search(
        self, packed: Tensor, dense: Tensor, bias: Any, alpha: Any, out_dtype: Any, transpose: bool
    ) -> tuple[int, int, int, int]:
        assert (alpha, out_dtype, transpose) == (None, None, False)
        return self.search(packed, dense, bias), 2, 1, 37

    def multiply(
        self,
        packed: Tensor,
        dense: Tensor,
        bias: Tensor | None = None,
        alpha: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
        transpose_result: bool = False,
        alg_id: int = 0,
        split_k: int = 1,
        split_k_mode: int = -1,
    ) -> Tensor:
        assert (alpha, out_dtype, transpose_result) == (None, None, False)
        self.plans.append((alg_id, split_k, split_k_mode))
        y = packed.double() @ dense.double()
        return (y if bias is None else y + bias.double().unsqueeze(1)).to(dense.dtype)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeCusparselt:
    fake = FakeCusparselt()
    monkeypatch.setattr(torch, "_cslt_compress", fake.compress)
    monkeypatch.setattr(torch, "_cslt_sparse_mm", fake.multiply)
    monkeypatch.setattr(torch, "_cslt_sparse_mm_search", fake.search)
    bindings = SimpleNamespace(mm_search=fake.mm_search)
    monkeypatch.setattr(torch._C, "_cusparselt", bindings, raising=False)
    monkeypatch.setattr(cusparselt, "why_not", lambda *arguments: None)
    monkeypatch.setattr(cusparselt, "refuse_capture", lambda: None)
    monkeypatch.setattr(cusparselt, "_plans", {})
    return fake


def layer_of(dtype: torch.dtype = torch.float16) -> NMLinear:
    return NMLinear(64, 32, n=2, m=4, formulation="cusparselt", dtype=dtype)


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("dtype", cusparselt.DTYPES, ids=str)
def test_layer_computes_forward_and_backward(
    library: FakeCusparselt, dtype: torch.dtype, batch: int
) -> None:
    layer = layer_of(dtype)
    x = torch.randn(batch, 64, dtype=dtype, requires_grad=True)
    y = layer(x)
    y.backward(torch.ones_like(y))
    weight = layer.weight.double()
    assert layer.bias is not None
    expected = torch.nn.functional.linear(x.double(), weight, layer.bias.double())
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=5e-2)
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), weight.sum(0).expand(batch, -1), rtol=0, atol=5e-2)
    assert "forward cusparselt(alg_id=" in layer.config
    assert "grad_x cusparselt" not in layer.config


@pytest.mark.usefixtures("forget")
def test_the_algorithm_found_and_the_default_are_both_tried(library: FakeCusparselt) -> None:
    layer_of()(torch.randn(8, 64).half())
    assert set(library.plans) == {(12, 2, 1), (0, 1, -1)}


@pytest.mark.usefixtures("forget")
def test_each_size_is_searched_once_and_each_weight_packed_once(library: FakeCusparselt) -> None:
    layer = layer_of()
    with torch.no_grad():
        for batch in (8, 8, 16, 16):
            layer(torch.randn(batch, 64).half())
        assert (library.searches, library.packings) == (2, 1)
        layer.values.mul_(2)
        layer(torch.randn(8, 64).half())
    assert (library.searches, library.packings) == (2, 2)


@pytest.mark.usefixtures("forget")
def test_weights_under_autocast_are_packed_from_the_parameter(library: FakeCusparselt) -> None:
    layer = layer_of(torch.float32)
    x = torch.randn(8, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first = layer(x)
        layer.values.mul_(2)
        second = layer(x)
    assert library.packings == 2
    assert not torch.allclose(first, second, atol=1e-2)


def test_older_torch_has_only_the_deprecated_search(
    library: FakeCusparselt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch._C, "_cusparselt", SimpleNamespace())
    plan = cusparselt.search(torch.randn(32, 64), torch.randn(64, 8), None)
    assert plan == (12, 1, -1)


@pytest.mark.usefixtures("forget")
def test_a_failed_search_gives_its_reason(library: FakeCusparselt) -> None:
    library.fails = True
    reason = "cuSPARSELt search failed: RuntimeError: CUDA error: operation not supported"
    with pytest.raises(RuntimeError, match=reason):
        layer_of()(torch.randn(8, 64).half())


@pytest.mark.parametrize(
    ("device", "dtype", "sizes", "sparsity", "reason"),
    [
        ("cpu", torch.float16, (64, 64), 0.5, "runs on cuda, not on cpu"),
        ("cuda", torch.float32, (64, 64), 0.5, "takes float16, bfloat16, not float32"),
        ("cuda", torch.float16, (64, 64), 0.75, "2:4 only, not 1:4"),
        ("cuda", torch.float16, (64, 24), 0.5, "multiples of 16, .* out_features = 24"),
        ("cuda", torch.float16, (24, 64), 0.5, "multiples of 16, not in_features = 24"),
    ],
)
def test_why_not(
    device: str, dtype: torch.dtype, sizes: tuple[int, int], sparsity: float, reason: str
) -> None:
    why = NMLinear.why_not(*sizes, sparsity, dtype, formulation="cusparselt", device=device)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(why)


def test_why_not_without_the_library_or_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("cuda", torch.float16, 64, 64, 2, 4)
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: False)
    assert "no cuSPARSELt" in str(cusparselt.why_not(*arguments))
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, why in (((7, 5), "not sm_75"), ((9, 0), "None")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda found=capability: found)
        assert why in str(cusparselt.why_not(*arguments))
