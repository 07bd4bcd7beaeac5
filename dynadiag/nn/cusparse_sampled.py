"""The kept entries of a dense product by cuSPARSE (SDDMM) in float16, which torch leaves out."""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from dynadiag.nn import cusparse, cusparse_csr
from dynadiag.nn.cusparse_unbound import call
from dynadiag.nn.rows import Rows
from dynadiag.nn.third_party import explained, refuse
from dynadiag.nn.tuning import Ways


def ways(rows: Rows, gt: Tensor, x: Tensor) -> Ways:
    """Return the way to compute the kept entries of gᵀ x; one that raises where it is missing.

    There is none for other dtypes: torch calls the same function in float32 and float64, and in
    bfloat16 cuSPARSE has none.

    Args:
        rows: where the kept entries sit.
        gt: (out, batch).
        x: (batch, in).
    """
    if gt.dtype != torch.float16:
        return {}
    reason = cusparse.why_not(gt.device.type, gt.dtype)
    if reason is not None:
        return {"cusparse_sddmm": partial(refuse, reason)}
    return {"cusparse_sddmm": partial(_sampled, rows, gt, x)}


def _sampled(rows: Rows, gt: Tensor, x: Tensor) -> Tensor:
    _, api = cusparse.bindings()
    gt, x = gt.contiguous(), x.contiguous()
    values = gt.new_empty(len(rows.columns))
    scalars = cusparse.scalars_for(gt.dtype)
    with explained("cuSPARSE SDDMM"), cusparse.handle(gt.device) as handle, ExitStack() as release:
        a, b = (cusparse.dense_matrix(tensor, "row", release) for tensor in (gt, x))
        c = cusparse_csr.descriptor(rows, values, api)
        release.callback(api.destroySpMat, c)
        product = (handle, 0, 0, scalars.one, a, b, scalars.zero, c, scalars.compute, 0)
        size = ctypes.c_size_t()
        call("cusparseSDDMM_bufferSize", *product, ctypes.byref(size))
        workspace = torch.empty(size.value, dtype=torch.uint8, device=gt.device)
        cusparse.use_current_stream(handle, gt.device)
        call("cusparseSDDMM", *product, workspace.data_ptr())
    return values
