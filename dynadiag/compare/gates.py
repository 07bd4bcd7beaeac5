"""The exact checks: right results, no more bytes, no arm lost. Noise has no part in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .config import Config
from .outcome import Gate
from .ratios import Arm, Table

_BAD = ("wrong", "failed")
_BYTES = ("weight_bytes", "peak_bytes")
Key = tuple[str, str]


def gates(now: Sequence[Table], reference: Sequence[Table], config: Config) -> tuple[Gate, ...]:
    """The checks that failed.

    Args:
        now: the processes to judge.
        reference: those they are held against; none for a run alone, of which only the
            correctness of the subjects is checked.
        config: names the subjects.
    """
    names = {case: name for table in (*reference, *now) for case, name in table.names.items()}
    found = [*_wrong(now, reference, config), *_missing(now, reference)]
    found += _larger(now, reference, config)
    return tuple(Gate(kind, case, names[case], arm, text) for kind, (case, arm), text in found)


def _wrong(
    now: Sequence[Table], reference: Sequence[Table], config: Config
) -> Iterator[tuple[str, Key, str]]:
    for key in _keys(now):
        bad = next((arm for arm in _arms(now, key) if arm.status in _BAD), None)
        known = any(arm.status in _BAD for arm in _arms(reference, key))
        ours = bool(reference) or key[1] in (*config.subjects, "")
        if bad is not None and ours and not known:
            yield "correctness", key, f"{bad.status}: {bad.reason}"


def _missing(now: Sequence[Table], reference: Sequence[Table]) -> Iterator[tuple[str, Key, str]]:
    lost = [case for case in _cases(reference) if case not in _cases(now)]
    if any(_whole(table, then) for table in now for then in reference):
        yield from (("missing", (case, ""), "measured in the reference, not now") for case in lost)
    asked = any(_selection(table).get("arms") for table in now)
    for key in _keys(reference):
        there, here = _arms(reference, key), _arms(now, key)
        if key[0] in lost or not key[1] or (asked and not here):
            continue
        ran = all(arm.status == "ok" for arm in there)
        if ran and not any(arm.status != "skipped" for arm in here):
            reason = here[0].reason if here else "no such arm"
            yield "missing", key, f"measured in the reference, not now: {reason}"


def _larger(
    now: Sequence[Table], reference: Sequence[Table], config: Config
) -> Iterator[tuple[str, Key, str]]:
    for key in _keys(now):
        for kind in _BYTES if key[1] in config.subjects else ():
            then, here = _known(reference, key, kind), _known(now, key, kind)
            if then and here and min(here) > max(then):
                yield kind, key, f"{max(then):,.0f} B before, {min(here):,.0f} B now"


def _whole(now: Table, then: Table) -> bool:
    """Whether `now` was to measure all that `then` did."""
    same = now.header.get("mode") == then.header.get("mode")
    return same and bool(now.names) and not any(_selection(now).values())


def _selection(table: Table) -> Mapping[str, Any]:
    return table.header.get("selection") or {}


def _keys(tables: Sequence[Table]) -> list[Key]:
    return list(dict.fromkeys(key for table in tables for key in table.arms))


def _cases(tables: Sequence[Table]) -> dict[str, None]:
    return dict.fromkeys(case for table in tables for case in table.names)


def _arms(tables: Sequence[Table], key: Key) -> list[Arm]:
    return [table.arms[key] for table in tables if key in table.arms]


def _known(tables: Sequence[Table], key: Key, kind: str) -> list[float]:
    values = [getattr(arm, kind) for arm in _arms(tables, key)]
    return [value for value in values if value is not None]
