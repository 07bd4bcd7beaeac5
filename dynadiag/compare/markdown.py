"""The finding as Markdown: the summary of a job, or a comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import words
from .outcome import Change, Comparison

# A job's summary of more than 1 MiB is refused as a whole.
MOST_BYTES = 900_000
MOST = 200  # changed cases


def text(found: Comparison) -> str:
    """The finding, changed cases first and all cases folded in, below `MOST_BYTES`."""
    head = "\n".join(_head(found)) + "\n"
    rows = [_row(words.cells(each)) for each in (*found.overall, *found.changes)]
    changes = [*found.overall, *found.changes]
    return head + _folded(changes, rows, MOST_BYTES - len(head.encode()))


def _head(found: Comparison) -> Iterator[str]:
    yield from (f"## {words.headline(found)}", "", found.against)
    warning = words.one_sided(found)
    if warning:
        yield from ("", f"**Note:** {warning}")
    changes = words.listed(found) if found.mode != "run" else []
    if changes:
        yield ""
        yield from _table(words.heads(changes), [words.cells(each) for each in changes[:MOST]])
        if len(changes) > MOST:
            yield from ("", f"... and {len(changes) - MOST} more, among all comparisons below.")
    if found.gates:
        rows = [(gate.kind, gate.name, gate.arm, gate.text) for gate in found.gates]
        yield from ("", *_table(("failed check", "case", "arm", "what"), rows))
    if found.controls:
        controls = [
            (
                each.name.rstrip(","),
                words.change(each.ratio) if each.ratio else "–",
                "moved" if each.moved else "stable",
            )
            for each in found.controls
        ]
        yield from ("", *_table(("control", "change", "finding"), controls))
    if found.environment:
        facts = [(each.name, each.reference, each.now) for each in found.environment]
        yield from ("", *_table(("environment", "before", "now"), facts))


def _folded(changes: Sequence[Change], rows: Sequence[str], room: int) -> str:
    if not rows:
        return ""
    heads = words.heads(changes)
    opening = f"\n<details><summary>All {len(rows)} comparisons</summary>\n\n"
    opening += "\n".join(_table(heads, [])) + "\n"
    left = room - len(opening.encode()) - 200
    kept = 0
    for row in rows:
        left -= len(row.encode()) + 1
        if left < 0:
            break
        kept += 1
    cut = "" if kept == len(rows) else f"\n{len(rows) - kept} more are in compare.json.\n"
    return opening + "".join(f"{row}\n" for row in rows[:kept]) + cut + "\n</details>\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(heads)
    yield _row(["---"] * len(heads))
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
