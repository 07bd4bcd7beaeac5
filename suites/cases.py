"""The grid as data: cases.toml becomes a list of cases, with every name checked."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dynadiag.bench.paired import PRECISIONS, Precision
from dynadiag.bench.records import Row, case_id

DIRECTIONS = ("forward", "grad_x", "grad_values", "step")
DTYPES = ("float32", "bfloat16")
CONTROLS = ("dense", "dense_again")
AXES = ("directions", "shapes", "batches", "dtypes", "sparsities")


class CaseError(ValueError):
    """A grid or a selection that names something unknown."""


@dataclass(frozen=True)
class Case:
    """One layer shape in one situation; its arms are measured side by side.

    Attributes:
        shape: "768x3072" for a layer from 768 to 3072 features.
        sparsity: the share of zeros asked of every sparse arm.
        model: the models that hold such a layer.
        arms: names of the ways to compute it, the controls first.
    """

    direction: str
    shape: str
    batch: int
    dtype: str
    sparsity: float
    model: str = ""
    arms: tuple[str, ...] = CONTROLS

    @property
    def in_features(self) -> int:
        """Features of x."""
        return features(self.shape)[0]

    @property
    def out_features(self) -> int:
        """Features of y."""
        return features(self.shape)[1]

    @property
    def _parameters(self) -> Row:
        return {
            "suite": "layers",
            "direction": self.direction,
            "out_features": self.out_features,
            "in_features": self.in_features,
            "batch": self.batch,
            "dtype": self.dtype,
            "sparsity": self.sparsity,
            "regime": "eager",
        }

    @property
    def id(self) -> str:
        """Hash of the parameters: the same case has the same id in every run."""
        return case_id(**self._parameters)

    @property
    def columns(self) -> Row:
        """The columns that all rows of the case share."""
        about = {"case_id": self.id, "op": "linear", "duty": "sustained", "process": 0}
        return self._parameters | about | {"model": self.model, "shape": self.shape}

    def __str__(self) -> str:
        """Return a name that reads well and that `-k` can match."""
        return f"{self.direction}-{self.shape}-b{self.batch}-{self.dtype}-s{self.sparsity:g}"

    def seed(self, run_seed: int) -> int:
        """Return the seed of inputs, weights and schedule, different for every case of a run."""
        return (int(self.id, 16) + run_seed) % 2**31


@dataclass(frozen=True)
class Mode:
    """What one run measures.

    Attributes:
        precision: how narrow the intervals should be and what that may cost.
        energy: whether energy is measured too, seconds for every arm.
    """

    name: str
    precision: Precision
    energy: bool
    cases: tuple[Case, ...]


def features(shape: str) -> tuple[int, int]:
    """Return (in_features, out_features) of a shape such as "768x3072"."""
    inner, _, outer = shape.partition("x")
    return int(inner), int(outer)


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
    return Mode(name, precision, mode.get("energy", False), cases)


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
    grid: Mapping[str, Sequence[Any]],
    models: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
) -> Iterator[Case]:
    owners = {
        shape: [model for model in models if shape in models[model]]
        for shapes in models.values()
        for shape in shapes
    }
    _check(grid, owners, models, groups)
    shapes = dict.fromkeys(s for name in grid["shapes"] for s in models.get(name, [name]))
    arms = dict.fromkeys([*CONTROLS, *(arm for name in grid["arms"] for arm in groups[name])])
    for values in itertools.product(*(shapes if a == "shapes" else grid[a] for a in AXES)):
        direction, shape, batch, dtype, sparsity = values
        model = ", ".join(owners[shape])
        yield Case(direction, shape, batch, dtype, sparsity, model, tuple(arms))


def _check(
    grid: Mapping[str, Sequence[Any]],
    owners: Mapping[str, Sequence[str]],
    models: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
) -> None:
    missing = [axis for axis in (*AXES, "arms") if axis not in grid]
    if missing:
        raise CaseError(f"a grid lacks {', '.join(missing)}; every grid states all of them")
    _known("grid entry", grid, (*AXES, "arms"))
    _known("direction", grid["directions"], DIRECTIONS)
    _known("dtype", grid["dtypes"], DTYPES)
    _known("shape", grid["shapes"], (*owners, *models))
    _known("arm", grid["arms"], groups)


def _known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise CaseError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
