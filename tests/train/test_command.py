"""`dynadiag train`: which runs its words stand for, and how it ends."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dynadiag import cli
from dynadiag.arguments import parser
from dynadiag.train import Option, Place, Run, command, create
from dynadiag.train.command import command_of, runs_of, settings

SCHEDULE: dict[str, Option] = {"schedule": "Cosine", "start": 5.0, "end": 0.5}


def read(*words: str) -> list[Run]:
    return list(runs_of(parser({}).parse_args(["train", *words])))


def test_one_preset_is_one_run_of_the_default_method() -> None:
    assert read("digits-mlp") == [create("digits-mlp", "dynadiag", sparsity=0.9, seed=0)]


def test_lists_are_all_their_combinations() -> None:
    words = "digits-mlp --method rigl dense --sparsity 0.8 0.9 --seed 0 1"
    runs = read(*words.split())
    assert [(run.method, run.sparsity, run.seed) for run in runs] == [
        ("rigl", 0.8, 0),
        ("rigl", 0.8, 1),
        ("rigl", 0.9, 0),
        ("rigl", 0.9, 1),
        ("dense", 0.0, 0),
        ("dense", 0.0, 1),
    ]


def test_values_are_what_they_look_like() -> None:
    words = ["drop=0.1", "bound=soft", "learn_alpha=false", "clip=null", "name=a=b"]
    assert settings(words) == {
        "drop": 0.1,
        "bound": "soft",
        "learn_alpha": False,
        "clip": None,
        "name": "a=b",
    }
    with pytest.raises(ValueError, match="'drop' sets nothing; write NAME=VALUE"):
        settings(["drop"])


@pytest.mark.parametrize(
    "run",
    [
        create("digits-mlp"),
        create("digits-mlp", "dense", seed=3),
        create("text-gpt", "rigl", sparsity=1 / 3, steps=7, lr=3e-4, clip=None, beta2=0.9),
        create("mixer-cifar100", changes={"blocks": 2}, options={"learn_alpha": True, "l1": 0.1}),
        create("digits-mlp", "set", distribution="erk", trace="layers.0"),
        create("vit-b16-imagenet"),
        create("digits-mlp", options={"temperature": SCHEDULE}),
        create("digits-vit", exclude=("head", "blocks.0")),
        create("digits-mixer", fold=2),
    ],
)
def test_printed_command_is_the_run(run: Run, tmp_path: Path) -> None:
    words = command_of(run, Place(tmp_path))
    assert words[:4] == ["python", "-m", "dynadiag", "train"]
    assert read(*words[4:]) == [run]


def test_print_executes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "my runs")
    assert cli.main(["train", "digits-mlp", "--seed", "0", "1", "--print", "--out", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [f"--seed={seed}" in shlex.split(line) for seed, line in enumerate(lines)] == [True] * 2
    assert not Path(out).exists()


def test_run_ends_with_what_it_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "digits-mlp --method static --steps 4 --batch 32 --device cpu"
    assert cli.main(["train", *words.split(), "--out", str(tmp_path)]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path}/digits-mlp-static-s90-seed0-")
    assert ": test loss " in line
    assert "sparsity 0.9" in line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("digit", "unknown preset 'digit'; known: digits-mlp"),
        ("digits-mlp --recipe epochs=3", "a recipe has no 'epochs'"),
        ("digits-mlp --method nothing", "there is no method 'nothing'; choose from"),
        ("digits-mlp --sparsity 1.5", "1.5"),
        ("digits-mlp --trace nowhere", "no layer 'nowhere' to trace"),
        ("mixer-cifar10", "pass root="),
    ],
)
def test_wrong_words_are_one_line(
    words: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *words.split(), "--device=cpu", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_interrupted_run_tells_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(run: Run, place: Place) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "execute", interrupted)
    assert cli.main(["train", "digits-mlp", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on where it stopped\n"


def test_several_runs_go_to_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run_all(runs: list[Run], place: Place, *, workers: int | None) -> list[None]:
        asked.append(([run.seed for run in runs], place.root, workers))
        return []

    monkeypatch.setattr(command, "run_all", run_all)
    words = ["train", "digits-mlp", "--seed", "0", "1", "--workers", "2", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    assert asked == [([0, 1], tmp_path, 2)]


def test_slurm_takes_the_settings_of_submitit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def submit(runs: list[Run], place: Place, **parameters: object) -> list[None]:
        asked.append(parameters)
        return []

    monkeypatch.setattr(command, "submit", submit)
    words = ["train", "digits-mlp", "--slurm", "timeout_min=60", "slurm_partition=gpu"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    assert asked == [{"timeout_min": 60, "slurm_partition": "gpu"}]


def test_a_sweep_under_torchrun_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["train", "digits-mlp", "--seed", "0", "1", "--out", str(tmp_path)]) == 2
    assert "2 runs under torchrun, whose processes share one; give one" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
