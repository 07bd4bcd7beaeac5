"""The finding as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import words
from .outcome import Comparison

MOST = 100  # lines of a table


def text(found: Comparison) -> str:
    """The finding, the changed cases, the failed checks, and what differs around them."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Comparison) -> Iterator[str]:
    yield found.against
    changes = words.listed(found)
    if changes:
        yield ""
        yield from _table(words.heads(changes), [words.cells(each) for each in changes[:MOST]])
        if len(changes) > MOST:
            yield f"... and {len(changes) - MOST} more"
    yield from [""] if found.gates else []
    for gate in found.gates:
        yield f"{gate.kind}: {gate.name} {gate.arm}: {gate.text}".replace(" :", ":")
    if found.environment:
        yield ""
        rows = [(each.name, each.reference, each.now) for each in found.environment]
        yield from _table(("environment", "before", "now"), rows)
    yield ""
    yield from filter(None, [words.one_sided(found)])
    yield words.headline(found)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    every = [heads, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(heads))]
    for row in every:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
