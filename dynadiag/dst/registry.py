"""The training methods by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import methods as _methods
from . import schedules
from .method import Method


def methods() -> dict[str, type[Method]]:
    """Return the training methods by name; the docstring of each says what it does."""
    known: list[type[Method]] = [getattr(_methods, name) for name in _methods.__all__]
    return {kind.name: kind for kind in sorted(known, key=lambda kind: kind.name)}


def method(name: str, **options: Any) -> Method:
    """Return a training method.

    Args:
        name: one of `methods()`.
        options: fields of its class; those not named take their defaults. A schedule may be given
            as in `Method.options`: `{"schedule": "Cosine", "start": 5.0, "end": 0.05}`.

    Raises:
        ValueError: there is no such method or option, or an option has a bad value.
    """
    known = methods()
    if name not in known:
        raise ValueError(f"there is no method {name!r}; choose from {', '.join(known)}")
    fields = [field.name for field in dataclasses.fields(known[name])]
    for option in options:
        if option not in fields:
            raise ValueError(
                f"the method {name} has no option {option!r}; "
                f"it takes {', '.join(fields) or 'none'}"
            )
    return known[name](**{option: _made(value) for option, value in options.items()})


def _made(value: Any) -> Any:
    """Return the schedule that a dictionary describes, and any other value as it is."""
    if not isinstance(value, dict):
        return value
    known = {kind.__name__: kind for kind in schedules.Schedule.__subclasses__()}
    kind = value.get("schedule")
    if kind not in known:
        raise ValueError(f"schedule is {kind!r}, but must be one of {', '.join(known)}")
    return known[kind](**{name: part for name, part in value.items() if name != "schedule"})
