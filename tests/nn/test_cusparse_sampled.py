from __future__ import annotations

import pytest
import torch

from dynadiag.nn import cusparse_sampled
from dynadiag.nn.csr import CSRLinear

from .fake_cusparse import FakeCusparse


@pytest.fixture
def layer() -> CSRLinear:
    torch.manual_seed(0)
    return CSRLinear(24, 16, sparsity=0.75, dtype=torch.float16)


def test_kept_entries_of_the_product(library: FakeCusparse, layer: CSRLinear) -> None:
    gt, x = torch.randn(5, 16).half().t(), torch.randn(24, 5).half().t()
    (way,) = cusparse_sampled.ways(layer._rows(), gt, x).values()
    product = way()
    assert product.dtype == torch.float16
    expected = layer._gather(gt.double() @ x.double())
    torch.testing.assert_close(product.double(), expected, rtol=0, atol=2e-2)


def test_the_stream_is_torchs_though_ctypes_sets_none(
    library: FakeCusparse, layer: CSRLinear
) -> None:
    library.torch_stream = 9
    gt, x = torch.randn(16, 5).half(), torch.randn(5, 24).half()
    cusparse_sampled.ways(layer._rows(), gt, x)["cusparse_sddmm"]()
    assert library.seen == [(9, 0)]


def test_a_refusal_gives_the_librarys_words(library: FakeCusparse, layer: CSRLinear) -> None:
    library.refused = {0}
    gt, x = torch.randn(16, 5).half(), torch.randn(5, 24).half()
    way = cusparse_sampled.ways(layer._rows(), gt, x)["cusparse_sddmm"]
    with pytest.raises(RuntimeError, match=r"SDDMM failed.*cusparseSDDMM: operation not supported"):
        way()


def test_only_float16_has_no_other_way(layer: CSRLinear) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(5, 24, dtype=dtype)
        assert cusparse_sampled.ways(layer._rows(), torch.randn(16, 5, dtype=dtype), x) == {}
