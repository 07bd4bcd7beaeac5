"""What a comparison holds runs to: limits, arms, and exceptions for some cases."""

from __future__ import annotations

import json
import operator
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dynadiag.bench.schema import COLUMNS

from .outcome import CompareError

_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Limits:
    """How far a ratio of ratios may move, as fractions: 0.05 for 5 %.

    Attributes:
        margin: up to which it is the same.
        warn: slower by more than this is shown.
        fail: slower by more than this is a regression.
    """

    margin: float = 0.01
    warn: float = 0.02
    fail: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.margin <= self.warn <= self.fail < 1:
            raise CompareError(
                "limits are fractions with 0 < margin <= warn <= fail < 1, got "
                f"margin {self.margin}, warn {self.warn}, fail {self.fail}"
            )


@dataclass(frozen=True)
class Override:
    """Other limits for the cells whose columns match.

    Attributes:
        match: a column's value, a list of values, or a comparison such as "<=512", by column.
        limits: the names and values that differ.
    """

    match: Mapping[str, Any]
    limits: Mapping[str, float]

    def fits(self, columns: Mapping[str, Any]) -> bool:
        """Whether every column matches."""
        return all(_fits(columns.get(name), wanted) for name, wanted in self.match.items())


@dataclass(frozen=True)
class Config:
    """One comparison's rules.

    Attributes:
        subjects: arms that must not become slower; those that no run has are left out.
        baselines: arms they are held against, likewise; what shows against one of them must not be
            gainsaid by another.
        anchor: the baseline that the controls are held against.
        aa: the arm that is the anchor under another name.
        overall: all cases together slower by more than this, in pairs of processes, is a
            regression; `fail` is for single cases.
        level: coverage of the intervals.
        rate: of false discoveries over all cases (Benjamini-Hochberg).
        process: standard deviation of a ratio from one process to the next, which no interval of
            a single process shows.
        confirm: fresh processes that measure a suspicious case of a run again.
        pairs_least: pairs of processes of two commits, at least.
        pairs_most: and at most, while a regression cannot be ruled out.
    """

    limits: Limits = Limits()
    subjects: tuple[str, ...] = ("diagonal", "diagonal_cpu", "diagonal_cuda")
    baselines: tuple[str, ...] = ("csr_cusparse", "csr_torch", "dense")
    anchor: str = "dense"
    aa: str = "dense_again"
    overall: float = 0.03
    level: float = 0.99
    rate: float = 0.05
    process: float = 0.01
    confirm: int = 1
    pairs_least: int = 3
    pairs_most: int = 12
    overrides: tuple[Override, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("level", "rate"):
            if not 0 < getattr(self, name) < 1:
                raise CompareError(f"{name} is {getattr(self, name)}, must be between 0 and 1")
        if not self.limits.warn <= self.overall < 1:
            raise CompareError(
                f"overall is {self.overall}, must be at least warn ({self.limits.warn}) and below 1"
            )
        if self.process < 0 or self.confirm < 0:
            raise CompareError("process and confirm must not be negative")
        if not 2 <= self.pairs_least <= self.pairs_most:
            raise CompareError(
                f"pairs_least is {self.pairs_least} and pairs_most {self.pairs_most}, but an "
                "interval needs 2 <= pairs_least <= pairs_most"
            )

    def limits_of(self, columns: Mapping[str, Any]) -> Limits:
        """The limits of one cell; of several overrides that match, later ones win."""
        limits = self.limits
        for override in self.overrides:
            if override.fits(columns):
                limits = replace(limits, **override.limits)
        return limits

    @property
    def together(self) -> Limits:
        """The limits of the geometric mean over all cases."""
        return replace(self.limits, fail=self.overall)

    def dump(self) -> str:
        """These rules as TOML that `load` reads back."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NESTED}
        lines = ["[compare]", *_lines(asdict(self.limits) | plain)]
        for override in self.overrides:
            match = ", ".join(f"{key} = {_toml(value)}" for key, value in override.match.items())
            lines += ["", "[[compare.case]]", f"match = {{ {match} }}", *_lines(override.limits)]
        return "\n".join(lines) + "\n"


PRESETS = {
    "default": Config(),
    "strict": Config(
        limits=Limits(0.005, 0.01, 0.03), overall=0.02, pairs_least=5, pairs_most=16, confirm=2
    ),
    "permissive": Config(limits=Limits(0.02, 0.05, 0.10), overall=0.07),
}
_NESTED = ("limits", "overrides")
_LIMITS = tuple(f.name for f in fields(Limits))
_RULES = tuple(f.name for f in fields(Config) if f.name not in _NESTED)


def load(path: Path | None = None, preset: str | None = None) -> Config:
    """Read the table `[compare]` of a TOML file over a preset.

    Args:
        path: None for the preset alone.
        preset: default, strict or permissive; by default what the file names, or `default`.

    Raises:
        CompareError: the file cannot be read, or holds an unknown name or a value of a wrong type.
    """
    table = {} if path is None else dict(_read(path))
    cases = table.pop("case", [])
    name = preset or table.pop("preset", "default")
    table.pop("preset", None)
    _known("preset", [name], PRESETS)
    _known("key of [compare]", table, (*_LIMITS, *_RULES, "preset", "case"))
    base = PRESETS[name]
    limits = replace(base.limits, **_typed(table, asdict(base.limits), _LIMITS))
    rules = _typed(table, {rule: getattr(base, rule) for rule in _RULES}, _RULES)
    return replace(base, limits=limits, **rules, overrides=_overrides(cases, limits))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompareError(f"{path} cannot be read: {error}") from error
    table = whole.get("compare")
    if not isinstance(table, dict):
        raise CompareError(f"{path} has no table [compare]; --dump-config prints one")
    return table


def _overrides(cases: Any, limits: Limits) -> tuple[Override, ...]:
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise CompareError("compare.case must be an array of tables: [[compare.case]]")
    return tuple(_override(dict(case), limits) for case in cases)


def _override(case: dict[str, Any], limits: Limits) -> Override:
    match = case.pop("match", None)
    if not isinstance(match, dict) or not match:
        raise CompareError('[[compare.case]] needs what to match: match = { batch = "<=16" }')
    _known("column to match", match, COLUMNS)
    _known("key of [[compare.case]]", case, (*_LIMITS, "match"))
    found = Override(match, _typed(case, asdict(limits), _LIMITS))
    replace(limits, **found.limits)  # refuses limits in the wrong order now, not at that case
    return found


def _typed(
    table: Mapping[str, Any], like: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
    """Those of `names` that `table` has, as tuples where `like` has them."""
    return {name: _value(name, table[name], like[name]) for name in names if name in table}


def _value(name: str, value: Any, like: Any) -> Any:
    if isinstance(like, tuple):
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        value = tuple(value) if good else value
    else:
        kinds = (int, float) if isinstance(like, float) else type(like)
        good = isinstance(value, kinds) and not isinstance(value, bool)
    if not good:
        expected = "a list of names" if isinstance(like, tuple) else f"like {like!r}"
        raise CompareError(f"{name} is {value!r}, expected {expected}")
    return value


def _known(what: str, names: Any, known: Any) -> None:
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise CompareError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(known)}")


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_fits(value, each) for each in wanted)
    sign = next(
        (sign for sign in _ORDERS if isinstance(wanted, str) and wanted.startswith(sign)), ""
    )
    if not sign:
        return bool(value == wanted)
    try:
        return value is not None and _ORDERS[sign](float(value), float(wanted[len(sign) :]))
    except ValueError as error:
        raise CompareError(f"{wanted!r} compares {value!r} with no number") from error


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in table.items()]


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # numbers, booleans and strings read the same
