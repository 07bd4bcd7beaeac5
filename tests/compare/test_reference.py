"""What may become a reference, and what of it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynadiag.bench.records import RunWriter, blank_row, read_run
from dynadiag.compare import reference
from dynadiag.compare.outcome import CompareError
from dynadiag.compare.reference import folder_of, refresh

from .fake_runs import HEADER, Fake, columns, make_run

SLUG = "a-cpu-2c"
SOUND = HEADER | {"suspect": False}


@pytest.fixture(autouse=True)
def clean_tree_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "device_slug", lambda device: SLUG)
    monkeypatch.setattr(reference, "git", lambda root: {"dirty": False})


def write_run(root: Path, **header: Any) -> Path:
    rows = make_run(Fake(cases=2, status={("csr_torch", 1): "skipped"})).rows
    about = columns(0) | {"arm": "diagonal"}
    time = {"metric": "time", "unit": "s", "value": 1e-3}
    more = [blank_row(**about, **time, stat=stat) for stat in ("median", "p05", "min")]
    writer = RunWriter.create(root, SOUND | header, device_slug=SLUG)
    writer.append([*more, *rows])
    return writer.folder


def test_a_run_becomes_the_reference_of_its_device(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs")
    folder = refresh(run, tmp_path)
    assert folder == folder_of(SLUG, tmp_path)
    kept, whole = read_run(folder), read_run(run)
    assert kept.header == whole.header
    assert {row["metric"] for row in kept.rows} == {row["metric"] for row in whole.rows}
    assert [row["stat"] for row in kept.rows if row["metric"] == "time"] == ["median", "median"]
    others = [row for row in whole.rows if row["metric"] == "time" and row["stat"] != "median"]
    assert {row["stat"] for row in others} == {"p05", "min"}
    assert len(whole.rows) - len(kept.rows) == len(others)
    assert [row["arm"] for row in kept.rows if row["status"] == "skipped"] == ["csr_torch"]


def test_the_one_before_is_replaced(tmp_path: Path) -> None:
    refresh(write_run(tmp_path / "runs"), tmp_path)
    folder = refresh(write_run(tmp_path / "runs", seed=7), tmp_path)
    assert read_run(folder).header["seed"] == 7
    assert sorted(path.name for path in folder.iterdir()) == ["rows.jsonl", "run.json"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"suspect": True}, "A/A control did not come out SAME"),
        ({"git": {"sha": "a" * 40, "dirty": True}}, "changes that no commit holds"),
        ({"git": {"sha": None, "reason": "git is not installed"}}, "git is not installed"),
        (
            {"device": HEADER["device"] | {"slug": "nvidia-h200"}},
            f"another device, nvidia-h200; this one is {SLUG}",
        ),
    ],
    ids=["suspect", "dirty", "unknown commit", "another device"],
)
def test_runs_that_may_not(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    run = write_run(tmp_path / "runs", **header)
    with pytest.raises(CompareError, match=message):
        refresh(run, tmp_path)
    assert not (tmp_path / "results").exists()


def test_an_unfinished_run_may_not(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "runs", HEADER, device_slug=SLUG)
    with pytest.raises(CompareError, match="A/A control"):
        refresh(writer.folder, tmp_path)


def test_another_schema_may_not(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs")
    path = run / "run.json"
    path.write_text(path.read_text().replace('"schema_version": "1.', '"schema_version": "1.99'))
    with pytest.raises(CompareError, match=r"its schema is 1\.99\d*, not"):
        refresh(run, tmp_path)


@pytest.mark.parametrize("dirty", [True, None])
def test_a_dirty_tree_keeps_its_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dirty: bool | None
) -> None:
    monkeypatch.setattr(reference, "git", lambda root: {"dirty": dirty})
    with pytest.raises(CompareError, match="this tree has changes"):
        refresh(write_run(tmp_path / "runs"), tmp_path)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="not a run folder"):
        refresh(tmp_path / "nothing", tmp_path)
