"""The grid as data: a file such as cases.toml becomes a list of cases, with every name checked."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynadiag.bench.paired import PRECISIONS

from .cases import CONTROLS, DIRECTIONS, DTYPES, REGIMES, Case, CaseError, Mode

AXES = ("directions", "shapes", "batches", "dtypes", "sparsities")
HERE = Path(__file__).resolve().parent
# The grid file of each device.
FILES = {"cpu": HERE / "cases.toml", "cuda": HERE / "cases-cuda.toml"}
# What a grid may leave out.
DEFAULTS = {"regimes": ["eager"]}
Grid = Mapping[str, Sequence[Any]]


def load_mode(path: Path, name: str, known_arms: Iterable[str]) -> Mode:
    """Read one mode of a grid file.

    Args:
        path: a file such as cases.toml.
        name: the mode.
        known_arms: the arms that exist.

    Raises:
        CaseError: a mode, shape, direction, dtype or arm is unknown.
    """
    text = tomllib.loads(path.read_text(encoding="utf-8"))
    modes, models, named = (text.get(table, {}) for table in ("modes", "models", "arms"))
    _known("mode", [name], modes)
    mode = modes[name]
    _known("precision", [mode["precision"]], PRECISIONS)
    single = {arm: [arm] for arm in known_arms}
    for group in named.values():
        _known("arm", group, single)
    cases = merged(
        case for grid in mode["grids"] for case in _product(grid, models, single | named)
    )
    precision = replace(PRECISIONS[mode["precision"]], **mode.get("override", {}))
    energy, self_checks = mode.get("energy", False), mode.get("self_checks", True)
    return Mode(name, precision, energy, cases, self_checks)


def merged(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Return each case once, with the arms of all its namesakes."""
    unique: dict[str, Case] = {}
    for case in cases:
        arms = (*unique[case.id].arms, *case.arms) if case.id in unique else case.arms
        unique[case.id] = replace(case, arms=tuple(dict.fromkeys(arms)))
    return tuple(unique.values())


def select(
    cases: Sequence[Case], *, arms: Sequence[str] = (), shapes: Sequence[str] = ()
) -> tuple[Case, ...]:
    """Keep the cases of some shapes or models, and in them the controls and some arms.

    Args:
        cases: what there is to choose from.
        arms: names of arms; empty for all. A case left with no arm but the controls is dropped.
        shapes: sizes or names of models; empty for all.

    Raises:
        CaseError: a name that no case has.
    """
    _known("arm", arms, dict.fromkeys(arm for case in cases for arm in case.arms))
    _known("shape", shapes, dict.fromkeys(name for case in cases for name in _names(case)))
    chosen = (case for case in cases if not shapes or set(shapes) & set(_names(case)))
    if not arms:
        return tuple(chosen)
    kept = (
        replace(case, arms=tuple(arm for arm in case.arms if arm in (*CONTROLS, *arms)))
        for case in chosen
    )
    return tuple(case for case in kept if set(case.arms) - set(CONTROLS))


def _names(case: Case) -> list[str]:
    return [case.shape, *case.model.split(", ")]


def _product(
    grid: Grid,
    models: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
) -> Iterator[Case]:
    owners = {
        shape: [model for model in models if shape in models[model]]
        for shapes in models.values()
        for shape in shapes
    }
    grid = {**DEFAULTS, **grid}
    _check(grid, owners, models, groups)
    shapes = dict.fromkeys(s for name in grid["shapes"] for s in models.get(name, [name]))
    arms = dict.fromkeys([*CONTROLS, *(arm for name in grid["arms"] for arm in groups[name])])
    for values in itertools.product(*(shapes if a == "shapes" else grid[a] for a in AXES)):
        direction, shape, batch, dtype, sparsity = values
        case = Case(direction, shape, batch, dtype, sparsity, ", ".join(owners[shape]), tuple(arms))
        yield from (replace(case, regime=regime) for regime in grid["regimes"])


def _check(
    grid: Grid,
    owners: Mapping[str, Sequence[str]],
    models: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
) -> None:
    missing = [axis for axis in (*AXES, "arms") if axis not in grid]
    if missing:
        raise CaseError(f"a grid lacks {', '.join(missing)}; every grid states all of them")
    _known("grid entry", grid, (*AXES, *DEFAULTS, "arms"))
    _known("direction", grid["directions"], DIRECTIONS)
    _known("dtype", grid["dtypes"], DTYPES)
    _known("regime", grid["regimes"], REGIMES)
    _known("shape", grid["shapes"], (*owners, *models))
    _known("arm", grid["arms"], groups)


def _known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise CaseError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
