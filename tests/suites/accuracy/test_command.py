"""The whole suite in its smallest mode: trained, written, gone on with, and failed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynadiag.bench.records import RecordError, read_run
from suites.accuracy import command
from suites.accuracy.grid import Grid, GridError, load


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_is_trained_written_and_not_repeated(tmp_path: Path) -> None:
    folder = command.start("smoke", tmp_path)
    assert command.train("smoke", folder, workers=1) == []
    written = rows(folder)
    trained = {row["arm"] for row in written if row["stat"] == "mean"}
    assert trained == {"dense", "rigl", "dynadiag"}
    assert read_run(folder).header["mode"] == "smoke"
    results = sorted((folder / command.TRAINING).glob("*/result.json"))
    before = [path.stat().st_mtime_ns for path in results]
    assert command.train("smoke", folder, workers=1) == []
    assert rows(folder) == written
    assert [path.stat().st_mtime_ns for path in results] == before


def test_a_method_that_fails_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(mode: str) -> Grid:
        return replace(load(mode), sparsities=(0.9999,))  # no diagonal fits

    folder = command.start("smoke", tmp_path)
    monkeypatch.setattr(command, "load", broken)
    (heading, failure) = command.train("smoke", folder, workers=1)
    assert heading == "1 of 3 runs failed:"
    assert "sparsity 0.9999 leaves" in failure
    (row,) = [row for row in rows(folder) if row["arm"] == "dynadiag"]
    assert row["status"] == "failed"
    assert "sparsity 0.9999 leaves" in row["reason"]
    assert str(tmp_path) not in row["reason"]


def test_what_is_trained_later_joins_the_rows(tmp_path: Path) -> None:
    folder = command.start("smoke", tmp_path, methods="dense")
    assert command.train(None, folder, methods="dense", workers=1) == []
    assert {row["arm"] for row in rows(folder)} == {"dense", None}
    assert command.train(None, folder, methods="rigl", workers=1) == []
    compared = {
        (row["arm"], row["baseline"]) for row in rows(folder) if row["stat"] == "difference"
    }
    assert compared == {("dense", "rigl"), ("rigl", "dense")}
    assert len([row for row in rows(folder) if row["metric"] == "case"]) == 1


def test_a_run_of_another_mode_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = command.start("smoke", tmp_path)
    with pytest.raises(RecordError, match="is a run of mode smoke, not full; start a new run"):
        command.train("full", folder)
    assert rows(folder) == []


def test_a_wrong_name_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="no method 'rgl' in this mode"):
        command.start("smoke", tmp_path, methods="rgl")
    assert not list(tmp_path.iterdir())
