"""`dynadiag compare --base REV`: this checkout against a commit, in turns of fresh processes.

Both are measured on the same machine within the same minutes, which makes it the comparison to
trust where machines are shared. The order is base head head base ...: a machine that slows down
steadily favours neither.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dynadiag.bench.records import Run

from .config import Config
from .outcome import CompareError, Comparison
from .pairs import judge_pairs, needs_more
from .side import Side

CHECKOUT = Path(__file__).resolve().parents[2]


def compare_base(
    revision: str,
    config: Config,
    out: Path,
    *,
    device: str | None = None,
    checkout: Path = CHECKOUT,
) -> Comparison:
    """Compare a checkout as it stands, changes not committed included, with one of its commits.

    Args:
        revision: the commit, in any form git understands.
        config: the limits, and how many pairs of processes.
        out: where the runs go, into folders 01-base, 01-head, ...
        device: cpu or cuda; by default cuda where there is one.
        checkout: the head.

    Raises:
        CompareError: there is no such commit, no git, or no checkout.
        NotMeasurable: a process did not get as far as a run.
    """
    sha = commit(checkout, revision)
    with tempfile.TemporaryDirectory(prefix="dynadiag-compare-") as name:
        home = Path(name)
        with worktree(checkout, sha, home / "tree") as tree:
            base, head = Side("base", tree, home / "base"), Side("head", checkout, home / "head")
            for side in (base, head):
                side.install()
            found = compare_sides(base, head, config, out, device=device)
    return replace(found, against=f"this checkout against {revision} ({sha[:12]})")


def compare_sides(
    base: Side, head: Side, config: Config, out: Path, *, device: str | None = None
) -> Comparison:
    """Measure two sides in turns until the judge is satisfied or the pairs are used up.

    Raises:
        CompareError: `out` holds runs already.
        NotMeasurable: a process did not get as far as a run.
    """
    if out.exists() and any(out.iterdir()):
        raise CompareError(f"{out} is not empty; choose another folder with --out")
    pairs: list[tuple[Run, Run]] = []
    while True:
        pairs.append(_pair(len(pairs) + 1, base, head, config, out, device))
        found = judge_pairs(pairs, config)
        enough = len(pairs) >= config.pairs_least and not needs_more(found, config)
        if found.gates or enough or len(pairs) == config.pairs_most:
            return found


def _pair(
    number: int, base: Side, head: Side, config: Config, out: Path, device: str | None
) -> tuple[Run, Run]:
    turns = (base, head) if number % 2 else (head, base)
    runs: dict[str, Run] = {}
    for side in turns:
        print(f"pair {number} of at most {config.pairs_most}: {side.name}", file=sys.stderr)
        runs[side.name] = side.measure(out / f"{number:02}-{side.name}", device)
    return runs[base.name], runs[head.name]


def commit(checkout: Path, revision: str) -> str:
    """Return the full name of a commit.

    Raises:
        CompareError: there is none of that name, or no git.
    """
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    done = _git(checkout, *words)
    if done.returncode != 0:
        raise CompareError(
            f"--base {revision}: no such commit in {checkout.name}; a shallow clone lacks old ones "
            "(git fetch --unshallow)"
        )
    return done.stdout.strip()


@contextmanager
def worktree(checkout: Path, sha: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a new folder, and forget it again.

    Raises:
        CompareError: git cannot.
    """
    added = _git(checkout, "worktree", "add", "--detach", "--quiet", str(folder), sha)
    if added.returncode != 0:
        raise CompareError(f"git cannot check out {sha}: {added.stderr.strip()}")
    try:
        yield folder
    finally:
        _git(checkout, "worktree", "remove", "--force", str(folder))


def _git(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(checkout), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CompareError("--base needs git, which is not installed") from error
