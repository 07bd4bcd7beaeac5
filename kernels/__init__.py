"""Backends of the diagonal operators: one registry, one file (or folder) a backend."""

from __future__ import annotations

from . import cpu as cpu
from . import cuda as cuda
from . import dense as dense
from . import reference as reference
from .choice import choose
from .registry import AUTO, DIRECTIONS, Backend, backends, check_name, get

__all__ = ["AUTO", "DIRECTIONS", "Backend", "backends", "check_name", "choose", "get"]
