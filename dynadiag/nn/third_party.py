"""What libraries that may be missing, or may refuse a call, have in common: one clear reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch


@contextmanager
def explained(call: str) -> Iterator[None]:
    """Turn whatever a call into a library raises into a RuntimeError that names the call."""
    try:
        yield
    except Exception as error:  # these libraries raise types of their own, ctypes and JITs any
        message = str(error).partition("\n")[0]
        raise RuntimeError(f"{call} failed: {type(error).__name__}: {message}") from error


def refuse(reason: str) -> NoReturn:
    """Raise RuntimeError with the reason: a way to compute that is known not to work here."""
    raise RuntimeError(reason)


def extra() -> str:
    """Return the command that installs what the CUDA rivals need."""
    major = (torch.version.cuda or "13").partition(".")[0]
    return f"pip install 'dynadiag[cuda{major}]'"


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype without `torch.`."""
    return str(dtype).removeprefix("torch.")
