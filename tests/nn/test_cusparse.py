from __future__ import annotations

import importlib

import pytest
import torch

from dynadiag.nn import cusparse
from dynadiag.nn.csr import CSRLinear


def test_float64_is_computed_in_float64_and_halves_in_float32() -> None:
    assert cusparse.scalars_for(torch.float64).compute == 1
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert cusparse.scalars_for(dtype).compute == 0


@pytest.mark.parametrize(
    ("device", "dtype", "reason"),
    [
        ("cpu", torch.float32, "runs on cuda, not on cpu"),
        ("cuda", torch.int8, "takes float32, float64, float16, bfloat16, not int8"),
    ],
)
def test_why_not(device: str, dtype: torch.dtype, reason: str) -> None:
    assert reason in str(cusparse.why_not(device, dtype))
    assert reason in str(CSRLinear.why_not(8, 8, 0.5, dtype, formulation="cusparse", device=device))


@pytest.mark.parametrize(
    ("version", "dtype", "rejected"),
    [
        ("13.0", torch.float16, False),
        ("13.1", torch.float16, True),
        ("13.2", torch.float16, True),
        ("13.1", torch.bfloat16, False),
        (None, torch.float16, False),
    ],
)
def test_versions_that_reject_float16(
    monkeypatch: pytest.MonkeyPatch, version: str | None, dtype: torch.dtype, rejected: bool
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    reason = f"cuSPARSE of CUDA {version} rejects float16"
    for formulation in (None, "torch_csr"):
        why = CSRLinear.why_not(8, 8, 0.5, dtype, formulation=formulation, device="cuda")
        assert (reason in str(why)) == rejected
    for formulation, device in (("embedding_bag", "cuda"), (None, "cpu")):
        assert CSRLinear.why_not(8, 8, 0.5, dtype, formulation=formulation, device=device) is None


@pytest.mark.parametrize(("version", "extra"), [("12.8", "cuda12"), ("13.0", "cuda13")])
def test_without_cupy_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str, extra: str
) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setattr(cusparse, "bindings", cusparse.bindings.__wrapped__)
    monkeypatch.setattr(cusparse, "_missing", cusparse._missing.__wrapped__)
    why = cusparse.why_not("cuda", torch.float32)
    assert why == f"cuSPARSE needs CuPy; pip install 'dynadiag[{extra}]' (No module named 'cupy')"
    with pytest.raises(RuntimeError, match="needs CuPy"):
        cusparse.multiply(int, 4, torch.randn(3, 2), 4, "row")
