"""Does `dynadiag compare --base` find what is planted, and nothing where nothing is?

`python results/studies/compare/study.py --count 20 --noise 2` compares the present commit with
itself, again and again: as it is (A/A), and with faults that build flags plant into the head's CPU
kernels (kernels/cpu/planted.h). Every comparison is a line of records.jsonl; an interrupted study
goes on where it stopped. `--count 0` prints the table alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynadiag.bench.environment import git
from dynadiag.bench.files import append
from dynadiag.compare.base import CHECKOUT, compare_sides, worktree
from dynadiag.compare.config import PRESETS
from dynadiag.compare.outcome import Change, Comparison
from dynadiag.compare.side import Side

RECORDS = Path(__file__).parent / "records.jsonl"
FLAGS = {
    "aa": "",
    "slowdown": "-DDYNADIAG_PLANTED_SLOWDOWN=10",
    "error": "-DDYNADIAG_PLANTED_ERROR",
    "allocation": "-DDYNADIAG_PLANTED_ALLOCATION",
}
# A neighbour: busy and idle in turns of up to two seconds, half of its work in memory.
NEIGHBOUR = """
import random, time
block = bytearray(2**25)
while True:
    until = time.monotonic() + random.uniform(0, 2)
    while time.monotonic() < until:
        bytes(block) if random.random() < 0.5 else sum(range(100_000))
    time.sleep(random.uniform(0, 2))
"""


def main() -> None:
    """Make the comparisons that are still missing, then print the table."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--count", type=int, default=20, help="comparisons of each kind")
    words.add_argument("--kinds", nargs="+", choices=FLAGS, default=[*FLAGS])
    words.add_argument("--noise", type=int, default=0, help="neighbours that disturb on purpose")
    words.add_argument("--records", type=Path, default=RECORDS)
    asked = words.parse_args()
    done = Counter(record["kind"] for record in read(asked.records))
    rounds = [[k for k in asked.kinds if done[k] <= number] for number in range(asked.count)]
    missing = [kind for kinds in rounds for kind in random.sample(kinds, len(kinds))]
    if missing:
        study(missing, asked.noise, asked.records)
    print(table(read(asked.records)))


def study(kinds: Sequence[str], noise: int, records: Path) -> None:
    """Make one comparison after the other; the kernels are compiled once for all."""
    facts = git(CHECKOUT)
    if facts["dirty"] is not False:
        sys.exit("the tree has changes that no commit holds: what was measured could not be told")
    with tempfile.TemporaryDirectory(prefix="dynadiag-study-") as name, neighbours(noise):
        home = Path(name)
        with worktree(CHECKOUT, facts["sha"], home / "tree") as tree:
            base, head = Side("base", tree, home / "base"), Side("head", CHECKOUT, home / "head")
            for side in (base, head):
                side.install()
            for number, kind in enumerate(kinds, 1):
                print(f"{number} of {len(kinds)}: {kind}", file=sys.stderr)
                faulty = replace(head, variables={"DYNADIAG_CXXFLAGS": FLAGS[kind]})
                found, seconds = timed(base, faulty, home / f"runs-{number}")
                about = {"kind": kind, "sha": facts["sha"], "noise": noise, "seconds": seconds}
                append(records, (json.dumps(about | record(found)) + "\n").encode())


def timed(base: Side, head: Side, out: Path) -> tuple[Comparison, float]:
    """One comparison, and the seconds it took."""
    start = time.monotonic()
    found = compare_sides(base, head, PRESETS["default"], out, device="cpu")
    return found, round(time.monotonic() - start, 1)


def record(found: Comparison) -> dict[str, Any]:
    """What is kept of a comparison."""
    return {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
        "status": str(found.status),
        "exit_code": int(found.exit_code),
        "pairs": found.pairs,
        "overall": [ratio(change) for change in found.overall],
        "cases": [ratio(change) for change in found.changes],
        "gates": [f"{gate.kind}: {gate.name} {gate.arm}: {gate.text}" for gate in found.gates],
        "reasons": list(found.reasons),
    }


def ratio(change: Change) -> dict[str, Any]:
    """How one speedup moved."""
    ends = {"value": change.ratio.value, "lo": change.ratio.lo, "hi": change.ratio.hi}
    rounded = {name: round(value, 4) if value < 1e9 else None for name, value in ends.items()}
    about = {"name": change.name, "arm": change.arm, "baseline": change.baseline}
    return {**about, **rounded, "kind": str(change.kind)}


def read(records: Path) -> list[dict[str, Any]]:
    """The comparisons made so far."""
    lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
    return [json.loads(line) for line in lines]


def table(made: Sequence[dict[str, Any]]) -> str:
    """How the comparisons of each kind ended, as Markdown."""
    lines = [
        "| head | comparisons | OK | REGRESSION | NOT_MEASURABLE | pairs | seconds, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in FLAGS:
        mine = [each for each in made if each["kind"] == kind]
        if mine:
            ends = Counter(each["status"] for each in mine)
            seconds = sorted(each["seconds"] for each in mine)[len(mine) // 2]
            pairs = sorted({each["pairs"] for each in mine})
            counts = [ends[status] for status in ("OK", "REGRESSION", "NOT_MEASURABLE")]
            cells = (kind, len(mine), *counts, f"{pairs[0]} to {pairs[-1]}", f"{seconds:.0f}")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep the machine busy at random meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


if __name__ == "__main__":
    main()
