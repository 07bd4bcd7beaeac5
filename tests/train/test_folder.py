"""The files of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dynadiag.train import create, read_result
from dynadiag.train.folder import Result, RunFolder, TrainError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "root", create("digits-mlp"))
    made.claim()
    return made


def test_claiming_twice_is_the_same(folder: RunFolder) -> None:
    before = (folder.path / "config.json").stat().st_mtime_ns
    folder.claim()
    assert (folder.path / "config.json").stat().st_mtime_ns == before
    assert folder.result() is None


def test_checkpoint_brings_back_the_state_and_its_metrics(folder: RunFolder) -> None:
    folder.log({"step": 1})
    folder.save({"step": 1, "weights": torch.arange(3)})
    folder.log({"step": 2})
    state = folder.restore()
    assert state is not None
    assert state["weights"].equal(torch.arange(3))
    assert state.keys() == {"step", "weights"}
    assert (folder.path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_line_that_was_cut_short_goes(folder: RunFolder) -> None:
    folder.log({"step": 1})
    folder.save({})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"ste')
    folder.restore()
    assert (folder.path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_failed_save_leaves_the_last_checkpoint(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save({"step": 1})

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        folder.save({"step": 2})
    assert {path.name for path in folder.path.iterdir()} == {"config.json", "last.pt"}
    assert folder.restore() == {"step": 1}


def test_folder_without_a_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"holds no finished run: no result\.json in it"):
        read_result(tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"steps": 3, "colour": "red"}', "[]"])
def test_a_damaged_result_is_named_with_its_remedy(folder: RunFolder, content: str) -> None:
    (folder.path / "result.json").write_text(content)
    with pytest.raises(TrainError, match=r"result\.json is damaged: .*; delete .* to train again"):
        folder.result()


def test_a_damaged_checkpoint_is_named_with_its_remedy(folder: RunFolder) -> None:
    (folder.path / "last.pt").write_bytes(b"nothing of torch")
    with pytest.raises(TrainError, match=r"last\.pt is damaged: .* to train again"):
        folder.restore()


def test_losses_that_diverged_are_json_and_come_back(folder: RunFolder) -> None:
    nothing = {"loss": math.nan, "accuracy": 0.1}
    folder.finish(Result(folder.path, 3, 1.0, 0.9, nothing, nothing, nothing, math.nan))
    assert "NaN" not in (folder.path / "result.json").read_text()
    found = folder.result()
    assert found is not None
    assert math.isnan(found.test["loss"])
    assert math.isnan(found.change)
    folder.log({"step": 1, "loss": math.nan})
    assert (folder.path / "metrics.jsonl").read_text() == '{"step": 1, "loss": null}\n'
