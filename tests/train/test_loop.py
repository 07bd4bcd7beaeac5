"""Runs from beginning to end: what they leave behind, and that an interruption changes nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynadiag import data, models
from dynadiag.data import Batch
from dynadiag.dst.checkpoint import load_
from dynadiag.train import Place, Run, create, execute, read_result
from dynadiag.train.folder import TrainError
from dynadiag.train.step import Stepper

FILES = {"config.json", "metrics.jsonl", "model.safetensors", "examples.npz", "result.json"}


def tiny(method: str = "dynadiag", **changes: Any) -> Run:
    """Return a run of a second at most, with updates of the topology and two validations."""
    recipe = {"steps": 24, "batch": 32, "warmup": 2, "evaluate": 10} | changes
    return create("digits-mlp", method, **recipe)


def place(root: Path, **changes: Any) -> Place:
    return Place(root, device="cpu", **changes)


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have Ctrl-C come in the middle of one step."""
    taken = Stepper.take

    def at(number: int) -> None:
        def take(self: Stepper, step: int, batch: Batch) -> tuple[Tensor, list[Tensor]]:
            if step == number:
                monkeypatch.setattr(Stepper, "take", taken)
                os.kill(os.getpid(), signal.SIGINT)
            return taken(self, step, batch)

        monkeypatch.setattr(Stepper, "take", take)

    return at


def test_finished_run_holds_its_files_and_nothing_else(tmp_path: Path) -> None:
    run = tiny("rigl")
    result = execute(run, place(tmp_path))
    assert result.folder == tmp_path / run.name
    assert {path.name for path in result.folder.iterdir()} == FILES
    assert json.loads((result.folder / "config.json").read_text()) == run.config()
    assert read_result(result.folder) == result


def test_result_says_how_good_the_frozen_model_is(tmp_path: Path) -> None:
    result = execute(tiny(), place(tmp_path))
    model = load_(models.create("mlp_digits"), result.folder / "model.safetensors").eval()
    test = data.load("digits").test
    inputs, targets = test.take(torch.arange(len(test)))
    with torch.no_grad():
        right = (model(inputs).argmax(1) == targets).float()
    examples = result.examples()
    assert np.array_equal(examples["correct"], right.numpy())
    assert result.test["accuracy"] == pytest.approx(right.mean().item())
    assert result.test["loss"] == pytest.approx(examples["loss"].mean(), rel=1e-5)
    assert result.change < 1e-4
    assert abs(result.sparsity - 0.9) < 0.01


def test_training_teaches(tmp_path: Path) -> None:
    result = execute(tiny("dense", steps=60, lr=3e-3), place(tmp_path))
    assert result.test["accuracy"] > 0.85
    assert result.sparsity == 0


def test_metrics_tell_the_loss_and_the_topology_as_they_go(tmp_path: Path) -> None:
    lines = metrics(execute(tiny("rigl"), place(tmp_path)).folder)
    validated = [line for line in lines if "validation" in line]
    assert [line["step"] for line in validated] == [10, 20, 24]
    assert validated[-1]["loss"] < validated[0]["loss"]
    moved = [line["topology"]["layers.0"] for line in lines if "topology" in line]
    assert any(layer["changed"] > 0 and layer["overlap"] < 1 for layer in moved)
    assert {layer["kept"] for layer in moved} == {moved[0]["kept"]}


@pytest.mark.parametrize(
    ("method", "step", "options"),
    [
        ("dense", 3, {}),
        ("static", 11, {}),
        ("rigl", 5, {}),
        ("dynadiag", 17, {}),
        ("dynadiag_paper", 20, {}),
        ("mest", 5, {"remove_examples": 0.5, "remove_at": 0.4}),
        ("mest", 17, {"remove_examples": 0.5, "remove_at": 0.4}),
    ],
)
def test_interrupted_run_ends_like_one_that_was_not(
    method: str, step: int, options: dict[str, float], tmp_path: Path, interrupt_at: Any
) -> None:
    run = tiny(method, options=options)
    whole = execute(run, place(tmp_path / "whole"))
    interrupt_at(step)
    with pytest.raises(KeyboardInterrupt):
        execute(run, place(tmp_path / "parts"))
    parts = execute(run, place(tmp_path / "parts"))
    for name in ("model.safetensors", "examples.npz"):
        one, other = (folder / name for folder in (whole.folder, parts.folder))
        assert one.read_bytes() == other.read_bytes(), name
    assert metrics(whole.folder) == metrics(parts.folder)
    assert (whole.test, whole.validation) == (parts.test, parts.validation)


def test_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny("rigl")
    whole = execute(run, place(tmp_path / "whole"))
    started = []
    taken = Stepper.take

    def take(self: Stepper, step: int, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        started.append(step)
        if len(started) == 13:
            raise MemoryError
        return taken(self, step, batch)

    monkeypatch.setattr(Stepper, "take", take)
    with pytest.raises(MemoryError):
        execute(run, place(tmp_path / "parts", save_every=0))
    parts = execute(run, place(tmp_path / "parts"))
    assert started == [*range(13), *range(12, 24)]
    assert metrics(whole.folder) == metrics(parts.folder)
    assert whole.test == parts.test


def test_run_without_a_checkpoint_starts_its_metrics_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny("rigl")
    whole = execute(run, place(tmp_path / "whole"))
    folder = tmp_path / "parts" / run.name
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 10}\n')
    execute(run, place(tmp_path / "parts"))
    assert metrics(folder) == metrics(whole.folder)


def test_finished_run_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny()
    result = execute(run, place(tmp_path))
    monkeypatch.setattr("dynadiag.train.loop.build", None)
    assert execute(run, place(tmp_path)) == result


def test_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    run = tiny()
    other = tmp_path / run.name / "config.json"
    other.parent.mkdir()
    other.write_text("{}")
    with pytest.raises(TrainError, match="holds a run of another configuration; move it away"):
        execute(run, place(tmp_path))
    assert other.read_text() == "{}"


def test_trace_keeps_alpha_and_the_selected_diagonals(tmp_path: Path) -> None:
    folder = execute(tiny(trace="layers.0"), place(tmp_path)).folder
    with np.load(folder / "trace.npz") as trace:
        steps, alpha, active = trace["step"], trace["alpha"], trace["active"]
        about = (str(trace["layer"]), int(trace["out_features"]), int(trace["in_features"]))
    assert about == ("layers.0", 256, 64)
    assert alpha.shape == active.shape == (len(steps), 256)
    assert len(steps) >= 20
    assert active.any(1).all()
    chosen = np.where(active, alpha, np.inf).min(1)
    assert (np.where(active, -np.inf, alpha).max(1) <= chosen).all()


def test_method_takes_its_options(tmp_path: Path) -> None:
    hot, cold = (
        tiny("dynadiag_paper", options={"temperature": temperature})
        for temperature in ({"schedule": "Constant", "value": 5.0}, 5.0)
    )
    assert hot != cold
    results = [execute(run, place(tmp_path)) for run in (hot, cold)]
    assert results[0].test == results[1].test


def test_freezing_that_changes_the_model_is_told(tmp_path: Path) -> None:
    soft = execute(tiny("dynadiag_paper"), place(tmp_path))
    assert soft.change > 1e-4
    assert soft.trained["loss"] != soft.test["loss"]


def test_layer_that_cannot_be_traced_is_answered_with_those_that_can(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no layer 'layer' to trace; choose from layers\.0"):
        execute(tiny(trace="layer"), place(tmp_path))


def test_micro_batches_train_like_the_whole_batch(tmp_path: Path) -> None:
    whole, parts = (
        execute(tiny("rigl", accumulate=count, clip=1.0), place(tmp_path)) for count in (1, 4)
    )
    assert whole.folder != parts.folder
    assert parts.test["loss"] == pytest.approx(whole.test["loss"], rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_autocast_trains_nearly_as_float32(precision: str, tmp_path: Path) -> None:
    exact, rough = (
        execute(tiny(precision=each), place(tmp_path)) for each in ("float32", precision)
    )
    assert rough.test["loss"] != exact.test["loss"]
    assert rough.test["loss"] == pytest.approx(exact.test["loss"], rel=0.1)


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    run = tiny(steps=6)
    alone = execute(run, place(tmp_path / "alone"))
    helped = execute(run, place(tmp_path / "helped", loaders=1))
    assert alone.test == helped.test
