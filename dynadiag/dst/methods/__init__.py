"""Sparse training methods, one a file."""

from __future__ import annotations

from .dense import Dense
from .diag_heuristic import DiagHeuristic
from .dsb import DSB
from .dynadiag import DynaDiag, DynaDiagPaper
from .mest import MEST
from .pixelated_butterfly import PixelatedButterfly
from .rigl import RigL
from .set import SET
from .srigl import SRigL
from .static import Static, StaticUnstructured

__all__ = [
    "DSB",
    "MEST",
    "SET",
    "Dense",
    "DiagHeuristic",
    "DynaDiag",
    "DynaDiagPaper",
    "PixelatedButterfly",
    "RigL",
    "SRigL",
    "Static",
    "StaticUnstructured",
]
