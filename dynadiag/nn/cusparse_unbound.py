"""The calls of cuSPARSE that CuPy does not bind, by ctypes on the library that CuPy loaded.

Descriptors made here and there are the same pointers, so that CuPy multiplies by and destroys
those made here. Signatures are those of cusparse.h 12.6, the cuSPARSE of CUDA 13.0.
"""

from __future__ import annotations

import ctypes
import functools

from dynadiag.nn.cusparse import bindings

_LIBRARY = "libcusparse.so.12"  # of CUDA 12 and 13 alike
_P, _L, _I = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_PRODUCT = (_P, _I, _I, _P, _P, _P, _P, _P, _I, _I, _P)
_SIGNATURES = {
    "cusparseCreateBsr": (_P, *[_L] * 5, *[_P] * 3, *[_I] * 5),
    "cusparseCreateBlockedEll": (_P, *[_L] * 4, *[_P] * 2, *[_I] * 3),
    "cusparseSDDMM_bufferSize": _PRODUCT,
    "cusparseSDDMM": _PRODUCT,
    "cusparseSpMM_preprocess": _PRODUCT,
}


@functools.cache
def _library() -> ctypes.CDLL:
    bindings()
    return ctypes.CDLL(_LIBRARY)


def call(name: str, *arguments: int | ctypes._CArgObject) -> None:
    """Call a function of the library.

    Args:
        name: of one of the functions declared here.
        arguments: integers and addresses; `ctypes.byref` of what the function writes to.

    Raises:
        RuntimeError: the library refuses the call; its own words for it follow the name.
        AttributeError: the library is too old to have the function.
    """
    library = _library()
    function = getattr(library, name)
    function.argtypes = _SIGNATURES[name]
    status = function(*arguments)
    if status != 0:
        library.cusparseGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(f"{name}: {library.cusparseGetErrorString(status).decode()}")


def create(name: str, *arguments: int) -> int:
    """Return the descriptor that a function of the library makes; `call` tells what it raises."""
    descriptor = ctypes.c_void_p()
    call(name, ctypes.byref(descriptor), *arguments)
    return descriptor.value or 0
