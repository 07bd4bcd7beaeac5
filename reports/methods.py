"""One fixed look per training method: those the question is about in front, others muted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

import pandas as pd
from matplotlib.lines import Line2D

from . import load
from .style import LIGHT, Look, Theme

LOOKS = MappingProxyType(
    {
        "dynadiag": Look("#D55E00", "o", "-", "DynaDiag", "DynaDiag"),
        "dynadiag_paper": Look("#E69F00", "p", (0, (6, 1.5)), "DynaDiag (paper)", "DynaDiag paper"),
        "static": Look("#009E73", "^", (0, (2, 1)), "static diagonals", "static diag."),
        "rigl": Look("#0072B2", "s", (0, (4, 1, 1, 1)), "RigL", "RigL"),
        "static_unstructured": Look(
            "#CC79A7", "D", (0, (1, 1)), "static unstructured", "static unstr."
        ),
        "set": Look("#6F9E8A", "v", (0, (5, 1, 1, 1, 1, 1)), "SET", "SET"),
        "mest": Look("#9A8FB5", "<", (0, (3, 2)), "MEST", "MEST"),
        "srigl": Look("#A89A5B", ">", (0, (5, 3)), "SRigL", "SRigL"),
        "diag_heuristic": Look("#B58A78", "*", (0, (1, 2)), "DiagHeur", "DiagHeur"),
        "dsb": Look("#7F93AD", "h", (0, (3, 1, 1, 2)), "DSB", "DSB"),
        "pixelated_butterfly": Look(
            "#8C8C8C", "d", (0, (7, 2, 1, 2)), "pixelated butterfly", "Pixelfly"
        ),
        "dense": Look("ink", "X", (0, (1, 3)), "dense", "dense"),
    }
)
ORDER = tuple(LOOKS)
FRONT = ("dynadiag", "dynadiag_paper", "static", "rigl", "static_unstructured")


def look(name: str, theme: Theme) -> Look:
    """The look of a method in ``theme``; one unknown to this version is drawn in grey."""
    found = LOOKS.get(name, Look(theme.muted, "8", ":", name, name[:14]))
    return replace(found, colour=theme.ink) if found.colour == "ink" else found


def named(name: str) -> str:
    """A method as text writes it: ``RigL`` for ``rigl``."""
    return look(name, LIGHT).name


def arranged(names: Iterable[str]) -> list[str]:
    """Distinct methods in the fixed order of the report, unknown ones last."""
    return load.arranged(names, ORDER)


def sparse(frame: pd.DataFrame) -> list[str]:
    """Methods of ``frame`` but dense."""
    return [name for name in arranged(frame["method"]) if name != "dense"]


def handle(name: str, theme: Theme, *, line: bool = True) -> Line2D:
    """Legend entry of a method: hollow and thin for those in the background."""
    its, front = look(name, theme), name in FRONT
    return Line2D(
        [],
        [],
        color=its.colour,
        marker=its.marker,
        markerfacecolor=its.colour if front else theme.paper,
        linestyle=its.dash if line else "none",
        linewidth=1.6 if front else 0.9,
        label=its.short,
    )
