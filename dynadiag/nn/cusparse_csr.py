"""CSR products by cuSPARSE, every algorithm and order of the dense matrices a way of its own.

torch always takes CSR_ALG2 and the layout it is given; here the tuner finds the fastest.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from dynadiag.nn import cusparse
from dynadiag.nn.rows import Rows
from dynadiag.nn.third_party import refuse
from dynadiag.nn.tuning import Ways

ALGORITHMS = {"alg1": 4, "alg2": 6, "alg3": 12}
_WAYS = {
    f"cusparse({algorithm} {order})": (code, order)
    for algorithm, code in ALGORITHMS.items()
    for order in cusparse.ORDERS
}


def ways(rows: Rows, values: Tensor, xt: Tensor) -> Ways:
    """Return the ways to compute W xᵀ, one for each algorithm and order.

    Args:
        rows: where the entries of W sit.
        values: (nnz,), contiguous.
        xt: (in, batch), of any strides.

    Returns:
        By name; a single way that raises the reason, where cuSPARSE cannot be called.
    """
    reason = cusparse.why_not(values.device.type, values.dtype)
    if reason is not None:
        return {"cusparse": partial(refuse, reason)}
    describe = partial(descriptor, rows, values)
    height = rows.shape[0]
    return {
        name: partial(cusparse.multiply, describe, height, xt, algorithm, order)
        for name, (algorithm, order) in _WAYS.items()
    }


def descriptor(rows: Rows, values: Tensor, api: Any) -> int:
    """Return the descriptor of the CSR matrix with these values (nnz,)."""
    addresses = (rows.starts.data_ptr(), rows.columns.data_ptr(), values.data_ptr())
    types = (cusparse.INT32, cusparse.INT32, 0, cusparse.DATA_TYPES[values.dtype])
    made: int = api.createCsr(*rows.shape, len(rows.columns), *addresses, *types)
    return made
