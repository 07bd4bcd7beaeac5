"""A run as a value: its name, its JSON form, and what it takes from its preset."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from dynadiag import data, models
from dynadiag.train import Recipe, Run, create, presets


def test_name_says_what_a_person_looks_for() -> None:
    run = create("digits-mlp", "rigl", sparsity=0.995, seed=3)
    assert run.name.startswith("digits-mlp-rigl-s99.5-seed3-")


def test_every_setting_counts_in_the_name() -> None:
    runs = [
        create("digits-mlp"),
        create("digits-mlp", lr=0.5),
        create("digits-mlp", distribution="uniform"),
        create("digits-mlp", options={"drop": 0.1}),
        create("digits-mlp", changes={"hidden": 128}),
        create("digits-mlp", exclude=()),
        create("digits-mlp", trace="layers.0"),
        create("digits-mlp", fold=1),
    ]
    assert len({run.name for run in runs}) == len(runs)


def test_order_of_options_does_not_count() -> None:
    one = create("digits-mlp", options={"drop": 0.1, "until": 0.5})
    other = create("digits-mlp", options={"until": 0.5, "drop": 0.1})
    assert one == other
    assert one.name == other.name


def test_name_is_the_same_in_every_process() -> None:
    run = create("digits-mlp", "rigl", steps=20, options={"drop": 0.25})
    assert run.name == "digits-mlp-rigl-s90-seed0-" + run.name[-8:]
    assert Run.from_config(json.loads(json.dumps(run.config()))).name == run.name


@pytest.mark.parametrize("method", ["dense", "dynadiag"])
def test_json_gives_the_run_back(method: str) -> None:
    run = create("text-gpt", method, clip=None, options={"drop": 0.1}, changes={"dropout": 0.1})
    assert Run.from_config(json.loads(json.dumps(run.config()))) == run


def test_dense_run_is_the_same_at_every_sparsity() -> None:
    run = create("digits-mlp", "dense", sparsity=0.9, distribution="erk", trace="layers.0")
    assert run == create("digits-mlp", "dense", sparsity=0.5)
    assert run.sparsity == 0


def test_lists_among_the_changes_survive_json() -> None:
    run = create("digits-mlp", changes={"hidden": [32, 32]}, options={"start": "random"})
    assert run.config()["changes"] == {"hidden": [32, 32]}
    again = Run.from_config(json.loads(json.dumps(run.config())))
    assert (again, hash(again)) == (run, hash(run))
    assert dict(run.changes) == {"hidden": (32, 32)}


def test_a_change_overrides_the_preset() -> None:
    run = create("mixer-cifar100", changes={"blocks": 2})
    assert dict(run.changes) == {"classes": 100, "blocks": 2}
    assert create("digits-mlp", steps=7).recipe.steps == 7


def test_stochastic_depth_is_for_the_dense_model() -> None:
    dense, sparse = (create("vit-b16-imagenet", method) for method in ("dense", "dynadiag"))
    assert (dict(dense.changes), dict(sparse.changes)) == ({}, {"drop_path": 0.0})


def test_longer_runs_cost_more() -> None:
    assert create("digits-mlp", steps=200).cost > create("digits-mlp", steps=100).cost


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'digit'; known: digits-mlp, "):
        create("digit")
    with pytest.raises(ValueError, match=r"no 'learning_rate'; it has steps, batch, lr"):
        create("digits-mlp", learning_rate=0.1)
    with pytest.raises(ValueError, match=r"there is no method '\.\./x'; choose from dense"):
        create("digits-mlp", "../x")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"sparsity": 1.5}, "sparsity"),
        ({"seed": -1}, "seed is -1, but must be a whole number in"),
        ({"options": {"drop": 2.0}}, "drop is 2.0, but must be a share"),
    ],
)
def test_what_no_training_can_be_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        create("digits-mlp", **given)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5, but must be a whole number, at least 1"),
        ({"evaluate": None}, "evaluate is None"),
        ({"warmup": -1}, "warmup is -1, but must be a whole number, at least 0"),
        ({"lr": float("inf")}, "lr is inf, but must be a positive number"),
        ({"lr": "abc"}, "lr is 'abc'"),
        ({"weight_decay": -1}, "weight_decay is -1, but must be a number, at least 0"),
        ({"smoothing": 3}, r"smoothing is 3, but must be in \[0, 1\)"),
        ({"clip": 0}, "clip is 0, but must be a positive number, or null for none"),
        ({"precision": "int8"}, "precision is 'int8', but must be one of float32, bfloat16, float"),
        ({"batch": 10, "accumulate": 4}, "not divisible into 4"),
    ],
)
def test_impossible_recipe_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(presets()["digits-mlp"].recipe, **changes)


@pytest.mark.parametrize("name", presets())
def test_preset_names_what_exists(name: str) -> None:
    preset = presets()[name]
    fields = {field.name for field in dataclasses.fields(models.names()[preset.model])}
    assert set(preset.changes_for("rigl")) <= fields
    assert preset.data in data.names()


def test_imagenet_is_seen_300_times() -> None:
    recipe: Recipe = presets()["vit-b16-imagenet"].recipe
    assert recipe.steps * recipe.batch / 1_281_167 == pytest.approx(300, rel=1e-3)
    assert recipe.warmup / recipe.steps == pytest.approx(5 / 300)
