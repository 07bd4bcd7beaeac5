"""2:4 products on sparse tensor cores by cuSPARSELt, with the algorithm it finds by search."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dynadiag.nn.third_party import explained, name_of, refuse
from dynadiag.nn.tuning import Ways
from dynadiag.nn.tuning_cuda import refuse_capture

DTYPES = (torch.float16, torch.bfloat16)
_MULTIPLE = 16  # of both sides of the weight, in 16 bits
_BATCH_MULTIPLE = 8
_LEAST_CAPABILITY = (8, 0)

Plan = tuple[int, int, int]  # alg_id, split_k, split_k_mode
_DEFAULT: Plan = (0, 1, -1)
_plans: dict[tuple[Any, ...], Plan | str] = {}


def why_not(
    device: str, dtype: torch.dtype | None, in_features: int, out_features: int, n: int, m: int
) -> str | None:
    """Return why cuSPARSELt cannot multiply by such a weight, or None."""
    if device != "cuda":
        return f"cuSPARSELt runs on cuda, not on {device}"
    if (n, m) != (2, 4):
        return f"cuSPARSELt multiplies 2:4 only, not {n}:{m}"
    if dtype is not None and dtype not in DTYPES:
        return f"cuSPARSELt takes {', '.join(map(name_of, DTYPES))}, not {name_of(dtype)}"
    if in_features % _MULTIPLE or out_features % _MULTIPLE:
        return (
            f"cuSPARSELt needs multiples of {_MULTIPLE}, not in_features = {in_features} and "
            f"out_features = {out_features}"
        )
    return _missing()


def _missing() -> str | None:
    if not torch.backends.cusparselt.is_available():
        return "this build of torch has no cuSPARSELt; install one for CUDA"
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
    if capability < _LEAST_CAPABILITY:
        return f"cuSPARSELt needs a card from sm_80 on, not sm_{capability[0]}{capability[1]}"
    return None


def compress(weight: Tensor) -> Tensor:
    """Return the kept values and their places packed as cuSPARSELt wants them.

    Args:
        weight: (out, in), contiguous, at most 2 of every 4 consecutive entries not zero.
    """
    with explained("cuSPARSELt compression"):
        packed: Tensor = torch._cslt_compress(weight)
    return packed


def ways(
    reason: str | None,
    out_features: int,
    pack: Callable[[], Tensor],
    xt: Tensor,
    bias: Tensor | None,
) -> Ways:
    """Return the ways to compute W xᵀ + b: the algorithm found by search, and the default one.

    Args:
        reason: what `why_not` said.
        out_features: rows of W.
        pack: returns the weight as `compress` makes it, perhaps kept from an earlier call.
        xt: (in, batch), of any strides.
        bias: (out,) or None; added within the product.

    Returns:
        By name; a single way that raises the reason, where there is one or the search fails.
    """
    if reason is not None:
        return {"cusparselt": partial(refuse, reason)}
    plan = _plan(out_features, pack, xt, bias)
    if isinstance(plan, str):
        return {"cusparselt": partial(refuse, plan)}
    return {
        f"cusparselt(alg_id={alg} split_k={split_k} mode={mode})": partial(
            _multiply, pack, xt, bias, (alg, split_k, mode)
        )
        for alg, split_k, mode in dict.fromkeys((plan, _DEFAULT))
    }


def _plan(
    out_features: int, pack: Callable[[], Tensor], xt: Tensor, bias: Tensor | None
) -> Plan | str:
    key = (out_features, xt.shape, xt.stride(), xt.dtype, xt.device, bias is None)
    if key not in _plans:
        refuse_capture()
        try:
            _plans[key] = search(pack(), _full(xt), bias)
        except RuntimeError as error:
            _plans[key] = str(error)
    return _plans[key]


def search(packed: Tensor, dense: Tensor, bias: Tensor | None) -> Plan:
    """Return the fastest algorithm, as cuSPARSELt measures them (PyTorch pull request 178659: 2x).

    Args:
        packed: what `compress` returned.
        dense: (in, batch), batch a multiple of 8.
        bias: (out,) or None.

    Raises:
        RuntimeError: the search fails.
    """
    with explained("cuSPARSELt search"):
        library: Any = getattr(torch._C, "_cusparselt", None)
        if hasattr(library, "mm_search"):
            alg, split_k, mode, _ = library.mm_search(packed, dense, bias, None, None, False)
            return int(alg), int(split_k), int(mode)
        return int(torch._cslt_sparse_mm_search(packed, dense, bias)), *_DEFAULT[1:]


def _multiply(pack: Callable[[], Tensor], xt: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
    batch = xt.shape[1]
    with explained("cuSPARSELt product"):
        y: Tensor = torch._cslt_sparse_mm(pack(), _full(xt), bias, None, None, False, *plan)
    return y if y.shape[1] == batch else y[:, :batch].contiguous()


def _full(xt: Tensor) -> Tensor:
    """Return xᵀ without gaps, by rows or by columns, its batch padded to what is required."""
    if xt.shape[1] % _BATCH_MULTIPLE:
        return F.pad(xt.t(), (0, 0, 0, -xt.shape[1] % _BATCH_MULTIPLE)).contiguous().t()
    return xt if xt.is_contiguous() or xt.t().is_contiguous() else xt.contiguous()
