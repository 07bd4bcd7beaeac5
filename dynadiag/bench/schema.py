"""What a record holds: the header's fields, the row's columns, their types, their JSON."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

# 1.1 added metrics (net energy, power, reserved and device memory, clock) and header fields.
SCHEMA_VERSION = "1.1"

Row = dict[str, Any]

_MAX = sys.float_info.max
_TEXT, _COUNT, _NUMBER = ("string", "null"), ("integer", "null"), ("number", "null")

# The row's columns and their JSON types; results/schema/row-1.schema.json says the same.
COLUMNS: dict[str, tuple[str, ...]] = {
    "run_id": ("string",),
    "case_id": ("string",),
    "suite": ("string",),
    "op": _TEXT,
    "direction": _TEXT,
    "model": _TEXT,
    "shape": _TEXT,
    "out_features": _COUNT,
    "in_features": _COUNT,
    "batch": _COUNT,
    "dtype": _TEXT,
    "sparsity": _NUMBER,
    "regime": _TEXT,
    "duty": _TEXT,
    "process": _COUNT,
    "arm": _TEXT,
    "format": _TEXT,
    "backend": _TEXT,
    "is_baseline": ("boolean", "null"),
    "sparsity_actual": _NUMBER,
    "nnz": _COUNT,
    "index_dtype": _TEXT,
    "config": _TEXT,
    "metric": ("string",),
    "unit": _TEXT,
    "stat": _TEXT,
    "baseline": _TEXT,
    "value": _NUMBER,
    "ci_lo": _NUMBER,
    "ci_hi": _NUMBER,
    "ci_level": _NUMBER,
    "n": _COUNT,
    "verdict": _TEXT,
    "flags": ("array",),
    "status": ("string",),
    "reason": _TEXT,
    "seed": _COUNT,
}

# Columns that take one of a few words (or null, where the type allows it).
WORDS: dict[str, tuple[str, ...]] = {
    "direction": ("forward", "grad_x", "grad_values", "step"),
    "verdict": ("FASTER", "SAME", "SLOWER", "AMBIGUOUS"),
    "status": ("ok", "skipped", "wrong", "failed"),
}

# The header's fields that every run has; callers may add others.
HEADER: dict[str, tuple[str, ...]] = {
    "schema_version": ("string",),
    "run_id": ("string",),
    "started_utc": ("string",),
    "mode": ("string",),
    "argv": ("array",),
    "seed": ("integer",),
    "git": ("object",),
    "device": ("object",),
    "host": ("object",),
    "software": ("object",),
    "torch_flags": ("object",),
    "env": ("object",),
}

_CHECKS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and -_MAX <= value <= _MAX
    ),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


class RecordError(ValueError):
    """A record cannot be written or read; the message names the place and the remedy."""


def case_id(**parameters: object) -> str:
    """Twelve hex digits that depend on the parameters only, not on their order or the process."""
    text = json.dumps(plain(parameters), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def blank_row(**columns: object) -> Row:
    """A row with every column: the given ones, no flags, status ok, and null for the rest.

    Raises:
        RecordError: if a column is unknown.
    """
    unknown = sorted(columns.keys() - COLUMNS.keys())
    if unknown:
        raise RecordError(f"unknown column {', '.join(unknown)}; known: {', '.join(COLUMNS)}")
    return dict.fromkeys(COLUMNS) | {"flags": [], "status": "ok"} | columns


def check_row(row: Mapping[str, Any], where: str, *, extra: bool) -> None:
    """Raise `RecordError` unless `row` has every column, well typed; `where` opens the message.

    A record of a newer minor version may have `extra` columns.
    """
    check(row, COLUMNS, where)
    unknown = sorted(row.keys() - COLUMNS.keys())
    if unknown and not extra:
        raise RecordError(f"{where} has unknown columns: {', '.join(unknown)}")
    for name, words in WORDS.items():
        if row[name] is not None and row[name] not in words:
            raise RecordError(f"{where}: {name} is {row[name]!r}; known: {', '.join(words)}")


def check(fields: Mapping[str, Any], types: Mapping[str, tuple[str, ...]], where: str) -> None:
    """Raise `RecordError` unless `fields` has every name of `types` with one of its JSON types."""
    missing = [name for name in types if name not in fields]
    if missing:
        raise RecordError(f"{where} lacks {', '.join(missing)}")
    for name, allowed in types.items():
        if not any(_CHECKS[kind](fields[name]) for kind in allowed):
            raise RecordError(
                f"{where}: {name} is {str(fields[name])[:80]!r}, expected {' or '.join(allowed)}"
            )


def plain(value: Any) -> Any:
    """`value` as JSON has it: numpy scalars unwrapped, tuples as lists, non-finite as null."""
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    raise RecordError(f"{value!r} of type {type(value).__name__} has no place in a record")


def dump(value: Any, indent: int | None = None) -> str:
    """`value`, already plain, as JSON text."""
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def load(text: str) -> dict[str, Any]:
    """The JSON object in `text`; anything else is a `ValueError`."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
