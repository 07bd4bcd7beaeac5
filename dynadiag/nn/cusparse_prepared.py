"""cuSPARSE's product after it has analysed the pattern, which it does once and profits from after.

Only for CSR_ALG1 and CSR_ALG3, the algorithms that use what the analysis finds.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from functools import partial

from torch import Tensor

from dynadiag.nn import cusparse, cusparse_csr
from dynadiag.nn.cusparse_unbound import call
from dynadiag.nn.rows import Rows
from dynadiag.nn.third_party import explained
from dynadiag.nn.tuning import Ways

_WAYS = {
    f"cusparse({name} {order} prepared)": (code, order)
    for name, code in cusparse_csr.ALGORITHMS.items()
    for order in cusparse.ORDERS
    if name != "alg2"
}


def ways(rows: Rows, values: Tensor, xt: Tensor) -> Ways:
    """Return the prepared ways to compute W xᵀ; none where cuSPARSE cannot be called.

    Args:
        rows: where the entries of W sit; what is prepared lasts as long as this object.
        values: (nnz,), contiguous; may differ from call to call.
        xt: (in, batch), of any strides.
    """
    if cusparse.why_not(values.device.type, values.dtype) is not None:
        return {}
    return {
        name: partial(_multiply, rows, values, xt, algorithm, order)
        for name, (algorithm, order) in _WAYS.items()
    }


class _Prepared:
    """The descriptor of an analysed matrix, and the workspace that holds what was found."""

    def __init__(
        self, rows: Rows, values: Tensor, dense: Tensor, out: Tensor, algorithm: int, order: str
    ) -> None:
        _, api = cusparse.bindings()
        self.matrix = cusparse_csr.descriptor(rows, values, api)
        weakref.finalize(self, api.destroySpMat, self.matrix)
        with cusparse.handle(dense.device) as handle, ExitStack() as release:
            product = cusparse.arguments(handle, self.matrix, dense, out, algorithm, order, release)
            self.workspace = cusparse.workspace_for(product, dense.device)
            cusparse.use_current_stream(handle, dense.device)
            call("cusparseSpMM_preprocess", *product, self.workspace.data_ptr())


# By rows, which are not kept alive.
_prepared: weakref.WeakKeyDictionary[Rows, dict[tuple[object, ...], _Prepared]]
_prepared = weakref.WeakKeyDictionary()


def _multiply(rows: Rows, values: Tensor, xt: Tensor, algorithm: int, order: str) -> Tensor:
    _, api = cusparse.bindings()
    dense = cusparse.ordered(xt, order)
    out = cusparse.empty(rows.shape[0], order, dense)
    key = (algorithm, order, dense.shape, dense.dtype, dense.device)
    known = _prepared.setdefault(rows, {})
    with explained("cuSPARSE SpMM"):
        if key not in known:
            known[key] = _Prepared(rows, values, dense, out, algorithm, order)
        one = known[key]
        api.spMatSetValues(one.matrix, values.data_ptr())
        with cusparse.handle(dense.device) as handle, ExitStack() as release:
            product = cusparse.arguments(handle, one.matrix, dense, out, algorithm, order, release)
            api.spMM(*product, one.workspace.data_ptr())
    return out
