"""Patterns that choose modules of a model by name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase


def as_patterns(patterns: str | Iterable[str]) -> tuple[str, ...]:
    """Return patterns as a tuple; a single string is one pattern, not a sequence of letters."""
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern names a module or something that module lies in.

    Args:
        name: dotted path of a module, such as `blocks.0.attn.proj`.
        pattern: the end of a path, `attn` or `attn.proj`, with the wildcards of `fnmatch`.
    """
    path = name.split(".")
    above = (".".join(path[:length]) for length in range(1, len(path) + 1))
    return any(fnmatchcase(f".{each}", f"*.{pattern}") for each in above)


def check_patterns(what: str, patterns: Collection[str], names: Collection[str]) -> None:
    """Raise ValueError for the first pattern that matches no name, naming those like it."""
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise ValueError(
                f"{what} {pattern!r} matches no module of the model; {_near(pattern, names)}"
            )


def _near(pattern: str, names: Collection[str]) -> str:
    ends = {name.rpartition(".")[2] for name in names}
    near = difflib.get_close_matches(pattern, sorted({*names, *ends}), n=3, cutoff=0.5)
    if not near:
        return "print dict(model.named_modules()).keys() to see their names"
    return f"did you mean {' or '.join(map(repr, near))}?"
