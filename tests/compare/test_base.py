"""Two commits in turns of processes: a tiny repository, whose library only pretends to measure."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dynadiag.bench.records import Run
from dynadiag.compare import base, side
from dynadiag.compare.base import commit, compare_base, compare_sides, worktree
from dynadiag.compare.config import Config
from dynadiag.compare.outcome import CompareError, Comparison, Gate, NotMeasurable
from dynadiag.compare.side import Side

PYPROJECT = """
[tool.setuptools.package-dir]
"dynadiag.kernels" = "kernels"
"dynadiag" = "dynadiag"
"""
# Says what it was called with, and where its parts come from.
BENCH = """
import json, os, sys
from pathlib import Path
import numpy, dynadiag, dynadiag.kernels
out = Path(sys.argv[sys.argv.index("--out") + 1]) / "run"
out.mkdir(parents=True)
names = ("DYNADIAG_CACHE", "OMP_NUM_THREADS", "DYNADIAG_CXXFLAGS", "PYTHONPATH")
(out / "run.json").write_text(json.dumps({
    "kernels": dynadiag.kernels.COMMIT,
    "root": str(Path(dynadiag.__file__).resolve().parent.parent),
    "argv": sys.argv[1:],
    "variables": {name: os.environ.get(name) for name in names},
}))
print("measured")
sys.exit(dynadiag.kernels.CODE)
"""


def shell(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write_kernels(checkout: Path, name: str, code: int = 0) -> None:
    (checkout / "kernels/__init__.py").write_text(f"COMMIT, CODE = {name!r}, {code}\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Two commits, and a change that none holds."""
    folder = tmp_path / "checkout"
    for package in ("dynadiag", "kernels"):
        (folder / package).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "dynadiag/__init__.py").touch()
    (folder / "dynadiag/__main__.py").write_text(BENCH)
    shell(tmp_path, "init", "--quiet", str(folder))
    for name in ("first", "second"):
        write_kernels(folder, name)
        shell(folder, "add", "--all")
        shell(folder, "commit", "--quiet", "--message", name)
    write_kernels(folder, "uncommitted")
    return folder


@dataclass
class Judge:
    """Stands for `pairs`: asks for pairs up to a number, and keeps what it was shown."""

    wanted: int = 0
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        self.pairs: list[tuple[Run, Run]] = []

    def judge_pairs(self, pairs: list[tuple[Run, Run]], config: Config) -> Comparison:
        self.pairs = list(pairs)
        return Comparison("pairs", (), gates=self.gates, pairs=len(pairs))

    def needs_more(self, found: Comparison, config: Config) -> bool:
        return found.pairs < self.wanted


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    def read_run(folder: Path) -> Run:
        return Run(json.loads((folder / "run.json").read_text()), [], folder)

    found = Judge()
    monkeypatch.setattr(base, "judge_pairs", lambda *given: found.judge_pairs(*given))
    monkeypatch.setattr(base, "needs_more", lambda *given: found.needs_more(*given))
    monkeypatch.setattr(side, "read_run", read_run)
    return found


def headers(judge: Judge, which: int) -> list[dict[str, Any]]:
    return [pair[which].header for pair in judge.pairs]


def order(out: Path) -> list[str]:
    made = {path.name: (path / "run/run.json").stat().st_mtime_ns for path in out.iterdir()}
    return sorted(made, key=lambda name: made[name])


def test_the_commit_is_compared_with_the_tree_as_it_stands(
    checkout: Path, judge: Judge, tmp_path: Path
) -> None:
    found = compare_base("HEAD~1", Config(), tmp_path / "out", checkout=checkout)
    assert {each["kernels"] for each in headers(judge, 0)} == {"first"}
    assert {each["kernels"] for each in headers(judge, 1)} == {"uncommitted"}
    assert {each["root"] for each in headers(judge, 1)} == {str(checkout)}
    assert commit(checkout, "HEAD~1")[:12] in found.against


def test_processes_alternate_base_head_head_base(
    checkout: Path, judge: Judge, tmp_path: Path
) -> None:
    compare_base("HEAD", Config(), tmp_path / "out", checkout=checkout)
    assert order(tmp_path / "out") == [
        *("01-base", "01-head", "02-head", "02-base", "03-base", "03-head")
    ]


@pytest.mark.parametrize(("wanted", "made"), [(0, 2), (3, 3), (9, 4)])
def test_pairs_are_added_while_the_judge_wants_more_up_to_the_most(
    checkout: Path, judge: Judge, tmp_path: Path, wanted: int, made: int
) -> None:
    judge.wanted = wanted
    config = Config(pairs_least=2, pairs_most=4)
    assert compare_base("HEAD", config, tmp_path / "out", checkout=checkout).pairs == made


def test_a_failed_gate_needs_no_second_pair(checkout: Path, judge: Judge, tmp_path: Path) -> None:
    judge.gates = (Gate("correctness", "c", "case", "diagonal", "wrong"),)
    assert compare_base("HEAD", Config(), tmp_path / "out", checkout=checkout).pairs == 1


def test_every_side_has_its_own_cache_and_one_thread(
    checkout: Path, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    compare_base("HEAD", Config(), tmp_path / "out", device="cpu", checkout=checkout)
    ours, theirs = ([each["variables"] for each in headers(judge, i)] for i in (1, 0))
    caches = {each["DYNADIAG_CACHE"] for each in (*ours, *theirs)}
    assert len(caches) == 2
    assert not any(Path(cache).exists() for cache in caches)
    assert all(each["OMP_NUM_THREADS"] == "1" for each in (*ours, *theirs))
    assert all(each["PYTHONPATH"] is None for each in (*ours, *theirs))
    words = headers(judge, 0)[0]["argv"]
    assert words[:4] == ["bench", "--mode", "compare", "--no-report"]
    assert words[-2:] == ["--device", "cpu"]


def test_threads_that_were_asked_for_stay(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert Side("base", checkout, tmp_path).environment()["OMP_NUM_THREADS"] == "4"


def test_a_fault_of_the_head_alone(checkout: Path, judge: Judge, tmp_path: Path) -> None:
    one, two = (Side(name, checkout, tmp_path / name) for name in ("base", "head"))
    for each in (one, two):
        each.install()
    faulty = replace(two, variables={"DYNADIAG_CXXFLAGS": "-DFAULT"})
    compare_sides(one, faulty, Config(), tmp_path / "out")
    flags = [[each["variables"]["DYNADIAG_CXXFLAGS"] for each in headers(judge, i)] for i in (0, 1)]
    assert set(flags[1]) == {"-DFAULT"}
    assert "-DFAULT" not in flags[0]


def test_an_arm_that_came_out_wrong_leaves_a_run(
    checkout: Path, judge: Judge, tmp_path: Path
) -> None:
    write_kernels(checkout, "wrong", code=1)
    compare_base("HEAD", Config(), tmp_path / "out", checkout=checkout)
    assert {each["kernels"] for each in headers(judge, 1)} == {"wrong"}


def test_a_process_without_a_run_ends_it(checkout: Path, judge: Judge, tmp_path: Path) -> None:
    write_kernels(checkout, "broken", code=2)
    with pytest.raises(NotMeasurable, match=r"head: dynadiag bench ended with 2: measured"):
        compare_base("HEAD", Config(), tmp_path / "out", checkout=checkout)


def test_a_folder_with_runs_is_left_alone(checkout: Path, judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "out/01-base").mkdir(parents=True)
    with pytest.raises(CompareError, match=r"not empty.*--out"):
        compare_base("HEAD", Config(), tmp_path / "out", checkout=checkout)


@pytest.mark.parametrize("revision", ["nonsense", "--help", "HEAD~9", ""])
def test_no_such_commit(checkout: Path, tmp_path: Path, revision: str) -> None:
    with pytest.raises(CompareError, match=r"no such commit.*--unshallow"):
        compare_base(revision, Config(), tmp_path / "out", checkout=checkout)


def test_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(CompareError, match="no such commit"):
        compare_base("HEAD", Config(), tmp_path / "out", checkout=tmp_path)


def test_no_git(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompareError, match="git, which is not installed"):
        compare_base("HEAD", Config(), tmp_path / "out", checkout=checkout)


def test_an_interruption_leaves_nothing_but_the_records(
    checkout: Path, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before = shell(checkout, "status", "--porcelain"), shell(checkout, "stash", "list")

    def interrupted(*given: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "needs_more", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare_base("HEAD", Config(pairs_least=2), tmp_path / "out", checkout=checkout)
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert list((tmp_path / "tmp").iterdir()) == []
    assert shell(checkout, "worktree", "list").count("\n") == 0
    assert (shell(checkout, "status", "--porcelain"), shell(checkout, "stash", "list")) == before


def test_a_worktree_is_removed_though_it_was_written_to(checkout: Path, tmp_path: Path) -> None:
    with worktree(checkout, commit(checkout, "HEAD"), tmp_path / "tree") as tree:
        (tree / "new").touch()
        write_kernels(tree, "changed")
    assert not (tmp_path / "tree").exists()
    assert shell(checkout, "worktree", "list").count("\n") == 0


def test_a_checkout_without_packages(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(CompareError, match=r"pyproject\.toml names no packages"):
        Side("base", tmp_path, tmp_path / "home").install()
